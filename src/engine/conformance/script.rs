//! The script driver as a subject of the suite: every law in worlds with and without faults.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Door, Peer, PeerRead, Subject, driving};
use crate::address::SocketAddress;
use crate::engine::plan::BufferPlan;
use crate::engine::socket::Socket;
use crate::simulation::faults::Faults;
use crate::simulation::script::ScriptDriver;
use crate::simulation::world::{self, Read, World, errno};

driving!(ScriptDriver);

pub(super) struct Script {
    pub(super) world: World,
    driver: ScriptDriver,
    ports: u16,
}

impl Subject for Script {
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
        let world = World::new([16_384, 64, 300, 2000][seed as usize % 4]);
        let driver = ScriptDriver::new(&world, plan, faults, seed);
        Ok(Self { world, driver, ports: 0 })
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
