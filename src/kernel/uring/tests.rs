//! What only the io_uring driver does: how it ends, what it sends without a copy, how it wakes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::*;
use crate::engine::errno::Errno;
use crate::engine::operation::{Manner, ReceiveEnd};
use crate::engine::socket::Socket;

const TOKEN: Token = Token { slot: 0, generation: 1 };
/// Far less than the driver waits for the kernel before it leaks.
const SOON: Duration = Duration::from_secs(5);
const SHORT: Patience = Patience::Sleep(Duration::from_millis(10));

fn driver() -> Option<UringDriver> {
    let plan = BufferPlan {
        buffer_len: 1024,
        posted: 16,
        pool_bytes_max: 64 << 10,
        datagram_pool_bytes: 4 << 20,
        credit: 1024,
    };
    let options = RingOptions { submissions: 8, completions: 64, spins: false };
    match UringDriver::new(&plan, &options, Arc::default()) {
        Ok(driver) => Some(driver),
        Err(reason) => {
            println!("SKIP: {reason}");
            None
        }
    }
}

fn attached(driver: &mut UringDriver, token: Token) -> UnixStream {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    driver.submit(Operation::Attach { token, socket: Socket::from(OwnedFd::from(near)) });
    far
}

/// Turns until a completion satisfies `found`; received buffers are given back.
fn until<T>(driver: &mut UringDriver, found: impl Fn(&Completion) -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        while let Some(completion) = driver.next() {
            let answer = found(&completion);
            if let Completion::Received { data, .. } = completion {
                driver.release(data);
            }
            if let Some(answer) = answer {
                return answer;
            }
        }
        assert!(start.elapsed() < SOON, "it never came");
        driver.turn(SHORT).unwrap();
    }
}

#[test]
fn a_driver_dropped_before_its_operations_left_ends_at_once() {
    let Some(mut driver) = driver() else { return };
    let other = Token { slot: 1, generation: 1 };
    let _far = attached(&mut driver, TOKEN);
    let _other = attached(&mut driver, other);
    let buffer = Vec::with_capacity(100);
    driver.submit(Operation::ReceiveExact { token: TOKEN, buffer, whole: true });
    driver.submit(Operation::Receive { token: other, credit: 1024 });
    let start = Instant::now();
    drop(driver);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn a_driver_dropped_amid_receives_ends_at_once() {
    let Some(mut driver) = driver() else { return };
    let fars: Vec<_> = (0..40)
        .map(|slot| {
            let token = Token { slot, generation: 1 };
            let far = attached(&mut driver, token);
            driver.submit(Operation::Receive { token, credit: 1024 });
            far
        })
        .collect();
    driver.turn(Patience::None).unwrap();
    let start = Instant::now();
    drop(driver);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    drop(fars);
}

#[test]
fn a_sibling_is_woken_even_if_the_waking_core_ends_at_once() {
    let (Some(mut waker), Some(mut sleeper)) = (driver(), driver()) else { return };
    sleeper.turn(Patience::None).unwrap();
    waker.know_sibling(0, sleeper.ring_descriptor().unwrap(), sleeper.bell());
    assert!(waker.ring_sibling(0));
    drop(waker);
    let start = Instant::now();
    sleeper.turn(Patience::Sleep(Duration::from_secs(20))).unwrap();
    assert!(start.elapsed() < SOON, "the wake was lost");
    while sleeper.next().is_some() {}
}

/// Sends without a copy, twice, and compares what the peer reads.
fn sends_whole(driver: &mut UringDriver, mut far: impl Read + Send + 'static) {
    let bytes: Vec<u8> = (0..300_000_u32).map(|at| at as u8).collect();
    for pieces in [1, 3] {
        let mut output = Box::new(Output::default());
        for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
            if pieces == 1 {
                output.put(piece);
            } else {
                output.put_bytes(piece.to_vec().into());
            }
        }
        let mut read = vec![0; bytes.len()];
        let reader = std::thread::spawn(move || {
            far.read_exact(&mut read).unwrap();
            (far, read)
        });
        driver.submit(Operation::Send { token: TOKEN, output, sent: 0, manner: Manner::ZeroCopy });
        let sent = until(driver, |completion| match completion {
            Completion::Sent { result, .. } => Some(*result),
            _ => None,
        });
        assert_eq!(sent, Ok(bytes.len()));
        let (back, read) = reader.join().unwrap();
        far = back;
        assert!(read == bytes, "in {pieces} pieces");
    }
}

#[test]
fn a_socket_that_cannot_send_without_a_copy_sends_with_one() {
    let Some(mut driver) = driver() else { return };
    let far = attached(&mut driver, TOKEN);
    sends_whole(&mut driver, far);
    assert!(driver.slots[0].copies_anyway, "and is not tried again");
    assert!(driver.lingering.iter().all(Option::is_none));
}

#[test]
fn an_output_sent_without_a_copy_lingers_until_the_kernel_lets_go() {
    let Some(mut driver) = driver() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let near = listener.accept().unwrap().0;
    near.set_nonblocking(true).unwrap();
    let socket = Socket::from(OwnedFd::from(near));
    driver.submit(Operation::Attach { token: TOKEN, socket });
    sends_whole(&mut driver, far);
    let start = Instant::now();
    while driver.in_flight > 0 {
        assert!(start.elapsed() < SOON, "the kernel lets go of what was read");
        while driver.next().is_some() {}
        driver.turn(SHORT).unwrap();
    }
    assert!(driver.lingering.iter().all(Option::is_none));
    assert_eq!(driver.lingering.len(), driver.lingering_free.len());
}

/// Receives one buffer of `byte` and leases it, if the pool lends it.
fn leased(driver: &mut UringDriver, far: &mut UnixStream, byte: u8) -> Option<bytes::Bytes> {
    let lender = driver.lender();
    far.write_all(&[byte; 1000]).unwrap();
    let start = Instant::now();
    loop {
        let mut lease = None;
        let mut received = 0;
        while let Some(completion) = driver.next() {
            match completion {
                Completion::Received { data, .. } => {
                    received += data.len;
                    assert_eq!(driver.bytes(&data), &[byte; 1000]);
                    lease = lender.lease(data.buffer, data.len);
                    driver.release(data);
                }
                Completion::ReceiveEnded { token, .. } => {
                    driver.submit(Operation::Receive { token, credit: 1024 });
                }
                other => panic!("{other:?}"),
            }
        }
        if received == 1000 {
            return lease;
        }
        assert!(start.elapsed() < SOON, "it never came");
        driver.turn(SHORT).unwrap();
    }
}

#[test]
fn leases_keep_their_bytes_until_they_end_anywhere_and_none_is_lost() {
    let Some(mut driver) = driver() else { return };
    let mut far = attached(&mut driver, TOKEN);
    driver.submit(Operation::Receive { token: TOKEN, credit: 1024 });
    for _ in 0..3 {
        let mut held = Vec::new();
        for byte in 0..200_u8 {
            held.extend(leased(&mut driver, &mut far, byte).map(|lease| (byte, lease)));
        }
        // 64 buffers, 16 of them in reserve, 16 with the kernel.
        assert!((24..=48).contains(&held.len()), "{} leases", held.len());
        let ended = std::thread::spawn(move || {
            for (byte, lease) in held {
                assert!(lease == [byte; 1000][..], "lease {byte}");
            }
        });
        ended.join().unwrap();
    }
}

/// What the kernel answers after it has waited for a busy socket in vain (it counts to 128). The
/// operations are not really with the kernel here.
#[test]
fn a_socket_that_was_busy_too_long_is_not_broken() {
    let Some(mut driver) = driver() else { return };
    let _far = attached(&mut driver, TOKEN);
    let sent = |driver: &mut UringDriver, errno: i32| {
        driver.slots[0].sending = Some(Box::default());
        match driver.sent(TOKEN, -errno) {
            Some(Completion::Sent { result, .. }) => result,
            other => panic!("{other:?}"),
        }
    };
    for errno in [libc::EAGAIN, libc::EINTR] {
        assert_eq!(sent(&mut driver, errno), Ok(0));
        let answer = driver.received(TOKEN, -errno, 0, true);
        let again =
            matches!(answer, Some(Completion::ReceiveEnded { end: ReceiveEnd::Credit, .. }));
        assert!(again, "{answer:?}");
        driver.slots[0].rare.get_or_insert_default().exact = Some(Vec::with_capacity(8));
        let answer = driver.received_exact(TOKEN, -errno);
        let again =
            matches!(answer, Some(Completion::ReceivedExact { result: Err(Errno::CANCELLED), .. }));
        assert!(again, "{answer:?}");
    }
    assert_eq!(sent(&mut driver, libc::EPIPE), Err(Errno(libc::EPIPE)));
}
