//! Sockets as the kernel has them: options, shared ports, stale files, ends and resets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;

fn loopback(port: u16) -> SocketAddress {
    SocketAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn port(socket: &Socket) -> u16 {
    match socket.local_address().unwrap() {
        SocketAddress::Tcp(ip) => ip.port(),
        other => panic!("{other:?}"),
    }
}

fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("postring-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn listening_sockets_are_non_blocking_without_delay_and_closed_on_exec() {
    let socket = Socket::listen(&loopback(0), &ListenOptions::default()).unwrap();
    assert_eq!(net::accept(socket.as_fd()).unwrap_err(), rustix::io::Errno::AGAIN);
    let flags = rustix::io::fcntl_getfd(socket.as_fd()).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    let client = TcpStream::connect(("127.0.0.1", port(&socket))).unwrap();
    let accepted = Socket::from(net::accept(socket.as_fd()).unwrap());
    assert!(sockopt::tcp_nodelay(accepted.as_fd()).unwrap());
    assert_eq!(accepted.peer_address().unwrap(), SocketAddress::Tcp(client.local_addr().unwrap()));
    assert!(accepted.take_error().is_none());
}

#[test]
fn a_port_is_shared_only_when_asked() {
    let shared = ListenOptions { reuse_port: true, incoming_cpu: Some(0), ..Default::default() };
    let first = Socket::listen(&loopback(0), &shared).unwrap();
    let again = Socket::listen(&loopback(port(&first)), &shared).unwrap();
    assert_eq!(port(&again), port(&first));
    let alone = Socket::listen(&loopback(port(&first)), &ListenOptions::default());
    let error = alone.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(listen_hint(&error).contains("another port"));
    assert_eq!(listen_hint(&io::Error::other("odd")), "");
}

#[test]
fn any_address_takes_ipv4_too() {
    let any = SocketAddress::Tcp("[::]:0".parse().unwrap());
    let socket = Socket::listen(&any, &ListenOptions::default()).unwrap();
    TcpStream::connect(("127.0.0.1", port(&socket))).unwrap();
    assert!(net::accept(socket.as_fd()).is_ok());
}

#[test]
fn a_stale_socket_file_is_replaced_and_nothing_else() {
    let path = directory("stale").join("server");
    let address = SocketAddress::Unix(path.clone());
    drop(UnixListener::bind(&path).unwrap());
    let live = Socket::listen(&address, &ListenOptions::default()).unwrap();
    assert_eq!(live.local_address().unwrap(), address);
    let second = Socket::listen(&address, &ListenOptions::default()).unwrap_err();
    assert_eq!(second.kind(), io::ErrorKind::AddrInUse, "somebody listens");
    UnixStream::connect(&path).expect("the live server is unharmed");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    let file = Socket::listen(&address, &ListenOptions::default()).unwrap_err();
    assert_eq!(file.kind(), io::ErrorKind::AddrInUse, "a plain file");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

#[test]
fn abstract_names_and_impossible_paths() {
    let name = format!("\0postring-test-{}", std::process::id());
    let address = SocketAddress::Unix(PathBuf::from(name));
    let socket = Socket::listen(&address, &ListenOptions::default()).unwrap();
    assert_eq!(socket.local_address().unwrap(), address);
    let client = Socket::connecting(&address).unwrap();
    with_system_address(&address, |to| net::connect(client.as_fd(), to)).unwrap();
    assert_eq!(client.peer_address().unwrap(), address);
    for bad in ["", &"x".repeat(200)] {
        let bad = SocketAddress::Unix(PathBuf::from(bad));
        assert!(Socket::listen(&bad, &ListenOptions::default()).is_err());
    }
}

#[test]
fn a_close_with_reset_is_seen_as_one_and_a_shutdown_as_an_end() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = SocketAddress::Tcp(server.local_addr().unwrap());
    for reset in [true, false] {
        let client = Socket::connecting(&address).unwrap();
        assert!(sockopt::tcp_nodelay(client.as_fd()).unwrap());
        let begun = with_system_address(&address, |to| net::connect(client.as_fd(), to));
        assert!(matches!(begun, Ok(()) | Err(rustix::io::Errno::INPROGRESS)));
        let mut peer = server.accept().unwrap().0;
        peer.write_all(b"unread").unwrap();
        let copy = client.try_clone().unwrap();
        if reset {
            client.send_reset_on_close().unwrap();
            drop(copy);
            drop(client);
            assert_eq!(peer.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        } else {
            client.shutdown_write().unwrap();
            assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
            client.shutdown_both().unwrap();
        }
    }
}
