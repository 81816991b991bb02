//! The script driver as a subject of the suite: every law in worlds with and without faults.

use std::marker::PhantomData;
use std::net::SocketAddr;
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
use super::datagrams::{Far, Posting};
use super::{Door, Peer, PeerRead, Subject, driving};
use crate::address::SocketAddress;
use crate::engine::plan::BufferPlan;
use crate::engine::socket::Socket;
use crate::simulation::faults::Faults;
use crate::simulation::network::Network;
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
use crate::simulation::post::Correspondent;
use crate::simulation::script::ScriptDriver;
use crate::simulation::world::{self, Read, World, errno};

driving!(ScriptDriver);

/// What the ways of a world hold.
pub(super) trait Ways {
    fn world(seed: u64) -> World;
}

/// Little, so that streams come to a stop.
pub(super) struct Narrow;
impl Ways for Narrow {
    fn world(seed: u64) -> World {
        World::new([16_384, 64, 300, 2000][seed as usize % 4])
    }
}

/// All that a law sends.
pub(super) struct Wide;
impl Ways for Wide {
    fn world(seed: u64) -> World {
        let network = Network { receive_buffer_bytes: 1 << 20, ..Network::default() };
        World::with_network(network, seed)
    }
}

pub(super) type Script = ScriptWith<Narrow>;
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
pub(super) type ScriptUdp = ScriptWith<Wide>;

pub(super) struct ScriptWith<W> {
    pub(super) world: World,
    driver: ScriptDriver,
    ports: u16,
    ways: PhantomData<W>,
}

impl<W: Ways> Subject for ScriptWith<W> {
    type Driver = ScriptDriver;
    type Peer = world::Peer;
    type Door = ScriptDoor;

    const REAL_TIME: bool = false;
    const IDLE_TURNS_MAX: usize = 50_000;
    const RESETS: bool = true;
    const BULK: usize = 20_000;
    const REFUSALS: &'static [i32] = &[errno::ECONNREFUSED.0];

    fn name() -> String {
        "the script driver".into()
    }

    fn seeds() -> std::ops::Range<u64> {
        0..40
    }

    fn new(seed: u64, plan: &BufferPlan) -> Result<Self, String> {
        // The first worlds are kind, so that a failure there is no fault's doing.
        let faults = if seed < 3 { Faults::NONE } else { Faults::from_seed(seed) };
        let world = W::world(seed);
        let driver = ScriptDriver::new(&world, plan, faults, seed);
        Ok(Self { world, driver, ports: 0, ways: PhantomData })
    }

    fn driver(&mut self) -> &mut ScriptDriver {
        &mut self.driver
    }

    fn pair(&mut self) -> (Socket, world::Peer) {
        self.world.pair()
    }

    fn listening(&mut self) -> (Socket, ScriptDoor) {
        let (address, _) = self.nobody();
        let socket = self.world.listen(&address, 1000).expect("the address is fresh");
        (socket, ScriptDoor { world: self.world.clone(), address, listener: None })
    }

    fn far_door(&mut self) -> (Socket, ScriptDoor) {
        let (address, socket) = self.nobody();
        let listener = self.world.listen(&address, 1000).expect("the address is fresh");
        (socket, ScriptDoor { world: self.world.clone(), address, listener: Some(listener) })
    }

    fn nobody(&mut self) -> (SocketAddress, Socket) {
        self.ports += 1;
        let address = SocketAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], self.ports)));
        (address, self.world.connecting())
    }

    fn bell(&self) -> Box<dyn Fn() + Send> {
        let bell = self.driver.bell();
        Box::new(move || bell.ring())
    }

    fn waited(&self) -> Duration {
        self.driver.slept()
    }
}

pub(super) struct ScriptDoor {
    world: World,
    address: SocketAddress,
    listener: Option<Socket>,
}

impl Door for ScriptDoor {
    type Peer = world::Peer;

    fn address(&self) -> SocketAddress {
        self.address.clone()
    }

    fn connect(&mut self) -> world::Peer {
        self.world.connect(&self.address).expect("the door is open")
    }

    fn accept(&mut self) -> Option<world::Peer> {
        self.world.accept(self.listener.as_ref()?)
    }
}

impl Peer for world::Peer {
    fn write(&mut self, bytes: &[u8]) -> usize {
        Self::write(self, bytes).unwrap_or(0)
    }

    fn read(&mut self, into: &mut Vec<u8>, max: usize) -> PeerRead {
        match Self::read(self, into, max) {
            Read::Bytes(_) => PeerRead::Bytes,
            Read::Nothing => PeerRead::Nothing,
            Read::End => PeerRead::End,
            Read::Failed(_) => PeerRead::Failed,
        }
    }

    fn end(&mut self) {
        Self::end(self);
    }

    fn reset(self) {
        Self::reset(self);
    }
}

#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
impl<W: Ways> Posting for ScriptWith<W> {
    type Far = Correspondent;

    fn foreign(&mut self) -> (Correspondent, SocketAddr) {
        self.world.correspondent(ANY_PORT)
    }

    fn connected_to(&mut self, to: SocketAddr) -> (Socket, SocketAddr) {
        let (socket, address) = self.open_to_all();
        self.world.connect_datagram_socket(&socket, to);
        (socket, address)
    }

    fn open_to_all(&mut self) -> (Socket, SocketAddr) {
        let socket = self.world.bind_datagrams(ANY_PORT).expect("a free port");
        let address = self.world.address_of(&socket);
        (socket, address)
    }
}

#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 0);

#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
impl Far for Correspondent {
    fn connect(&self, to: SocketAddr) {
        Self::connect(self, to);
    }

    fn send(&self, datagram: &[u8]) {
        Self::send(self, datagram, None).expect("it arrives or not");
    }

    fn send_to(&self, datagram: &[u8], to: SocketAddr) {
        Self::send(self, datagram, Some(to)).expect("it arrives or not");
    }

    fn receive(&self) -> Option<Vec<u8>> {
        Self::receive(self)
    }
}
