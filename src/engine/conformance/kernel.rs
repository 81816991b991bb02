//! Drivers of the kernel as subjects of the suite: loopback TCP, UDP and unix sockets.
//!
//! Above: the laws. Below: a driver, and far ends by plain system calls that do not wait.
//! Absent: the network beyond loopback.

use std::io;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, Shutdown, SocketType, sockopt};

use super::datagrams::{Far, Posting};
use super::{Door, Driving, Peer, PeerRead, Subject, driving};
use crate::address::SocketAddress;
use crate::engine::bell::EventBell;
use crate::engine::epoll::EpollDriver;
use crate::engine::metrics::CoreMetrics;
use crate::engine::operation::{Completion, Data, Operation};
use crate::engine::plan::{BufferPlan, Patience};
use crate::engine::socket::{ListenOptions, Socket, with_system_address};
use crate::kernel::{RingOptions, UringDriver};

pub(super) type EpollTcp = Kernel<EpollDriver, Tcp>;
pub(super) type EpollUnix = Kernel<EpollDriver, Unix>;
pub(super) type UringTcp = Kernel<UringDriver, Tcp>;
pub(super) type UringUnix = Kernel<UringDriver, Unix>;
pub(super) type TightUringTcp = Kernel<Tight, Tcp>;
pub(super) type EpollUdp = Kernel<EpollDriver, Udp>;
pub(super) type UringUdp = Kernel<UringDriver, Udp>;
pub(super) type TightUringUdp = Kernel<Tight, Udp>;

/// Small, so that a peer that does not read is soon felt.
const SOCKET_BUFFER_BYTES: usize = 64 * 1024;

/// A driver as the suite makes it.
pub(super) trait Made: Driving + Sized {
    const NAME: &'static str;
    fn made(plan: &BufferPlan) -> io::Result<Self>;
    fn event_bell(&self) -> EventBell;
}

driving!(EpollDriver);
impl Made for EpollDriver {
    const NAME: &'static str = "the epoll driver";

    fn made(plan: &BufferPlan) -> io::Result<Self> {
        Self::new(plan, Arc::new(CoreMetrics::default()))
    }

    fn event_bell(&self) -> EventBell {
        self.bell()
    }
}

driving!(UringDriver);
impl Made for UringDriver {
    const NAME: &'static str = "the io_uring driver";

    fn made(plan: &BufferPlan) -> io::Result<Self> {
        let options = RingOptions { submissions: 256, completions: 1024, spins: true };
        Self::new(plan, &options, Arc::new(CoreMetrics::default()))
    }

    fn event_bell(&self) -> EventBell {
        self.bell()
    }
}

/// The io_uring driver with queues so short that they overflow.
pub(super) struct Tight(UringDriver);

impl Driving for Tight {
    fn submit(&mut self, operation: Operation) {
        self.0.submit(operation);
    }
    fn turn(&mut self, patience: Patience) -> io::Result<()> {
        self.0.turn(patience)
    }
    fn next(&mut self) -> Option<Completion> {
        self.0.next()
    }
    fn bytes(&self, data: &Data) -> &[u8] {
        self.0.bytes(data)
    }
    fn release(&mut self, data: Data) {
        self.0.release(data);
    }
}

impl Made for Tight {
    const NAME: &'static str = "the io_uring driver with tight queues";

    fn made(plan: &BufferPlan) -> io::Result<Self> {
        let options = RingOptions { submissions: 2, completions: 4, spins: false };
        UringDriver::new(plan, &options, Arc::new(CoreMetrics::default())).map(Self)
    }

    fn event_bell(&self) -> EventBell {
        self.0.bell()
    }
}

/// A family of sockets.
pub(super) trait Transport {
    const NAME: &'static str;
    const RESETS: bool;
    const REFUSALS: &'static [i32];
    fn pair() -> io::Result<(OwnedFd, OwnedFd)>;
    /// Where to listen: each time a fresh one.
    fn fresh_address() -> SocketAddress;
    /// Where nobody listens.
    fn empty_address() -> SocketAddress;
}

pub(super) struct Tcp;
impl Transport for Tcp {
    const NAME: &'static str = "TCP";
    const RESETS: bool = true;
    const REFUSALS: &'static [i32] = &[Errno::CONNREFUSED.raw_os_error()];

    fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let near = TcpStream::connect(listener.local_addr()?)?;
        let far = listener.accept()?.0;
        for stream in [&near, &far] {
            stream.set_nodelay(true)?;
            sockopt::set_socket_send_buffer_size(stream, SOCKET_BUFFER_BYTES)?;
            sockopt::set_socket_recv_buffer_size(stream, SOCKET_BUFFER_BYTES)?;
        }
        Ok((near.into(), far.into()))
    }

    fn fresh_address() -> SocketAddress {
        SocketAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    fn empty_address() -> SocketAddress {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        SocketAddress::Tcp(listener.local_addr().expect("it is bound"))
    }
}

pub(super) struct Unix;
impl Transport for Unix {
    const NAME: &'static str = "unix sockets";
    const RESETS: bool = false;
    const REFUSALS: &'static [i32] = &[Errno::CONNREFUSED.raw_os_error()];

    fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        let (near, far) = UnixStream::pair()?;
        Ok((near.into(), far.into()))
    }

    fn fresh_address() -> SocketAddress {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // An abstract name: nothing is left behind in the file system.
        let name = format!("\0postring-conformance-{}-{count}", std::process::id());
        SocketAddress::Unix(PathBuf::from(name))
    }

    fn empty_address() -> SocketAddress {
        Self::fresh_address()
    }
}

/// The laws of datagrams make their sockets themselves; those of streams do not hold for it.
pub(super) struct Udp;
impl Transport for Udp {
    const NAME: &'static str = "UDP";
    const RESETS: bool = false;
    const REFUSALS: &'static [i32] = &[];

    fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        near.connect(far.local_addr()?)?;
        far.connect(near.local_addr()?)?;
        Ok((near.into(), far.into()))
    }

    fn fresh_address() -> SocketAddress {
        SocketAddress::Udp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    fn empty_address() -> SocketAddress {
        Self::fresh_address()
    }
}

pub(super) struct Kernel<D, T> {
    driver: D,
    start: Instant,
    transport: PhantomData<T>,
}

impl<D: Made, T: Transport> Subject for Kernel<D, T> {
    type Driver = D;
    type Peer = KernelPeer;
    type Door = KernelDoor;

    const REAL_TIME: bool = true;
    const IDLE_TURNS_MAX: usize = 500;
    const RESETS: bool = T::RESETS;
    const BULK: usize = 1 << 20;
    const REFUSALS: &'static [i32] = T::REFUSALS;

    fn name() -> String {
        format!("{} on {}", D::NAME, T::NAME)
    }

    fn seeds() -> std::ops::Range<u64> {
        0..3
    }

    fn new(_seed: u64, plan: &BufferPlan) -> Result<Self, String> {
        let driver = D::made(plan).map_err(|error| error.to_string())?;
        Ok(Self { driver, start: Instant::now(), transport: PhantomData })
    }

    fn driver(&mut self) -> &mut D {
        &mut self.driver
    }

    fn pair(&mut self) -> (Socket, KernelPeer) {
        let (near, far) = T::pair().expect("a connection on this machine");
        rustix::io::ioctl_fionbio(&near, true).expect("a socket takes this");
        (Socket::from(near), KernelPeer(far))
    }

    fn listening(&mut self) -> (Socket, KernelDoor) {
        let (listener, address) = listener::<T>();
        (listener, KernelDoor { address, listener: None })
    }

    fn far_door(&mut self) -> (Socket, KernelDoor) {
        let (listener, address) = listener::<T>();
        let socket = Socket::connecting(&address).expect("a socket");
        (socket, KernelDoor { address, listener: Some(listener) })
    }

    fn nobody(&mut self) -> (SocketAddress, Socket) {
        let address = T::empty_address();
        let socket = Socket::connecting(&address).expect("a socket");
        (address, socket)
    }

    fn bell(&self) -> Box<dyn Fn() + Send> {
        let bell = self.driver.event_bell();
        Box::new(move || bell.ring())
    }

    fn waited(&self) -> Duration {
        self.start.elapsed()
    }
}

fn listener<T: Transport>() -> (Socket, SocketAddress) {
    let options = ListenOptions::default();
    let listener = Socket::listen(&T::fresh_address(), &options).expect("a free address");
    let address = listener.local_address().expect("it is bound");
    (listener, address)
}

pub(super) struct KernelDoor {
    address: SocketAddress,
    listener: Option<Socket>,
}

impl Door for KernelDoor {
    type Peer = KernelPeer;

    fn address(&self) -> SocketAddress {
        self.address.clone()
    }

    /// Waits until the listener has it queued, which on loopback is at once.
    fn connect(&mut self) -> KernelPeer {
        with_system_address(&self.address, |address| {
            let socket = net::socket(address.address_family(), SocketType::STREAM, None)?;
            net::connect(&socket, address)?;
            Ok(KernelPeer(socket))
        })
        .expect("somebody listens")
    }

    fn accept(&mut self) -> Option<KernelPeer> {
        net::accept(self.listener.as_ref()?.as_fd()).ok().map(KernelPeer)
    }
}

pub(super) struct KernelPeer(OwnedFd);

impl Peer for KernelPeer {
    fn write(&mut self, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        net::send(&self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).unwrap_or(0)
    }

    fn read(&mut self, into: &mut Vec<u8>, max: usize) -> PeerRead {
        let before = into.len();
        into.resize(before + max, 0);
        let result = net::recv(self.0.as_fd(), &mut into[before..], RecvFlags::DONTWAIT);
        let len = result.map_or(0, |(_, len)| len);
        into.truncate(before + len);
        match result {
            Ok((_, 0)) => PeerRead::End,
            Ok(_) => PeerRead::Bytes,
            Err(Errno::AGAIN | Errno::INTR) => PeerRead::Nothing,
            Err(_) => PeerRead::Failed,
        }
    }

    fn end(&mut self) {
        net::shutdown(&self.0, Shutdown::Write).expect("the connection is open");
    }

    fn reset(self) {
        sockopt::set_socket_linger(&self.0, Some(Duration::ZERO)).expect("a stream takes this");
    }
}

impl<D: Made> Posting for Kernel<D, Udp> {
    type Far = UdpSocket;

    fn foreign(&mut self) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        socket.set_nonblocking(true).expect("a socket takes this");
        let address = socket.local_addr().expect("it is bound");
        (socket, address)
    }

    fn connected_to(&mut self, to: SocketAddr) -> (Socket, SocketAddr) {
        let socket = Socket::connecting(&SocketAddress::Udp(to)).expect("a socket");
        net::connect(socket.as_fd(), &to).expect("UDP connects at once");
        let address = ip_of(&socket);
        (socket, address)
    }

    fn open_to_all(&mut self) -> (Socket, SocketAddr) {
        let options = ListenOptions::default();
        let socket = Socket::listen(&Udp::fresh_address(), &options).expect("a free port");
        let address = ip_of(&socket);
        (socket, address)
    }
}

fn ip_of(socket: &Socket) -> SocketAddr {
    match socket.local_address().expect("it is bound") {
        SocketAddress::Udp(address) => address,
        other => panic!("{other:?} is not of UDP"),
    }
}

impl Far for UdpSocket {
    fn connect(&self, to: SocketAddr) {
        Self::connect(self, to).expect("UDP connects at once");
    }

    fn send(&self, datagram: &[u8]) {
        Self::send(self, datagram).expect("there is room");
    }

    fn send_to(&self, datagram: &[u8], to: SocketAddr) {
        Self::send_to(self, datagram, to).expect("there is room");
    }

    fn receive(&self) -> Option<Vec<u8>> {
        let mut room = vec![0; 70_000];
        let len = self.recv(&mut room).ok()?;
        room.truncate(len);
        Some(room)
    }
}
