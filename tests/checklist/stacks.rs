//! Items 35 and 111 to 116: what stacks do for Carriers: flows, framers, limits, back-pressure.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use postring::{
    CarrierRef, CarrierState, CloseReason, Detach, Error, Expiry, FrameError, Framer,
    LengthPrefixed, Lines, Message, Outcome, Output, Reply, TrySendError, Width,
};

use crate::pairs::*;
use crate::support::*;

/// The path brings half of them there before the deadline, which all have in common.
#[test]
fn item_035_with_room_for_half_the_more_urgent_class_meets_its_deadline() {
    const EACH: usize = 10;
    on_both(90, |driver| {
        let roomy = limits(|limits| limits.send_queue_bytes = 2 << 20);
        let engine = one(driver).limits(roomy).start().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 8 << 10).unwrap();
        let carrier = engine.initiate_with(&address_of(&listener), frames());
        carrier.activate().wait().unwrap();
        let mut peer = accept(&listener);
        fill(&carrier);
        let send = |niceness: u32| {
            let message = Message::new(vec![niceness as u8; 20_000]);
            let message = message.niceness(niceness).lifetime(Duration::from_secs(8));
            carrier.send(message).wait().unwrap()
        };
        let (nice, urgent): (Vec<_>, Vec<_>) = (0..EACH).map(|_| (send(1), send(0))).unzip();
        let mut arrived = 0;
        while arrived < EACH {
            match read_frame(&mut peer).unwrap()[0] {
                0 => arrived += 1,
                BULK => {}
                other => panic!("one of class {other} went first"),
            }
        }
        // Nothing more is read: that was all the path had to give.
        for receipt in urgent {
            assert_eq!(receipt.sent().wait().unwrap(), Outcome::Sent);
        }
        let is_late =
            |outcome| matches!(outcome, Outcome::Expired(Expiry::Deadline | Expiry::Hopeless));
        // Those at the end stand behind what the kernel has room for.
        for receipt in nice.into_iter().skip(EACH / 2) {
            assert!(is_late(receipt.sent().wait().unwrap()));
        }
        carrier.abort();
        end(engine);
    });
}

#[test]
fn item_111_carriers_over_tcp_do_not_hold_each_other_up() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let (stuck, listener) = to_foreign(&engine);
        stuck.activate().wait().unwrap();
        let stuck_there = accept(&listener);
        let free = stuck.fork().wait().unwrap();
        let mut free_there = accept(&listener);
        fill(&stuck);
        for round in 0..10_u8 {
            free.send(vec![round; 10_000]).wait().unwrap();
            assert_eq!(read_frame(&mut free_there).unwrap(), [round; 10_000]);
        }
        free_there.write_all(&frame(b"and back")).unwrap();
        assert_eq!(text(&free.receive().wait().unwrap()), "and back");
        // The end of one is none of the other's.
        stuck.abort();
        drop(stuck_there);
        free.send("still").wait().unwrap();
        assert_eq!(read_frame(&mut free_there).unwrap(), b"still");
        end(engine);
    });
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Point(i32, i32);

impl Detach for Point {
    type Owned = Self;
    fn detach(self) -> Self {
        self
    }
}

/// Points as eight bytes each.
#[derive(Clone)]
struct Points;

impl Framer for Points {
    type Got = Point;
    type In<'a> = Point;
    type Out<'a> = Point;

    fn decode(&mut self, input: &[u8]) -> Result<Option<(usize, Point)>, FrameError> {
        let Some((x, rest)) = input.split_first_chunk() else { return Ok(None) };
        let Some(y) = rest.first_chunk() else { return Ok(None) };
        Ok(Some((8, Point(i32::from_be_bytes(*x), i32::from_be_bytes(*y)))))
    }

    fn lend(point: Point) -> Point {
        point
    }

    fn encode(&mut self, point: Point, into: &mut Output) -> Result<(), FrameError> {
        into.put(&point.0.to_be_bytes());
        into.put(&point.1.to_be_bytes());
        Ok(())
    }
}

#[test]
fn item_112_a_framer_is_written_once_and_messages_are_what_it_frames() {
    on_both(60, |driver| {
        let path = std::env::temp_dir().join(format!("postring-item-112-{}", std::process::id()));
        // Left over from a run that was killed.
        let _ = std::fs::remove_file(&path);
        let unix = format!("unix://{}", path.display());
        for address in ["tcp://127.0.0.1:0", unix.as_str()] {
            let mirror =
                |point: Point, reply: Reply<'_, Points>| reply.send(Point(point.1, point.0));
            let engine = one(driver).respond_with(address, Points, mirror).start().unwrap();
            let carrier = engine.initiate_with(&engine.local_addresses()[0], Points);
            for at in 0..100 {
                carrier.send(Point(at, -1)).wait().unwrap();
            }
            for at in 0..100 {
                assert_eq!(carrier.receive().wait().unwrap(), Point(-1, at));
            }
            end(engine);
        }
        // Packets end where they want: within a Message, and behind several.
        let (engine, carrier, mut peer) = foreign_of(one(driver), Points);
        let bytes: Vec<u8> = [1_i32, 2, 3, 4, 5, 6].iter().flat_map(|n| n.to_be_bytes()).collect();
        peer.write_all(&bytes[..13]).unwrap();
        assert_eq!(carrier.receive().wait().unwrap(), Point(1, 2));
        peer.write_all(&bytes[13..]).unwrap();
        assert_eq!(carrier.receive().wait().unwrap(), Point(3, 4));
        assert_eq!(carrier.receive().wait().unwrap(), Point(5, 6));
        end(engine);
    });
}

/// What TCP can do of it: nothing that expired goes on the next connection, nor what follows it.
#[test]
fn item_114_deadline_reliability_and_dependency_of_each_message() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let (carrier, listener) = to_foreign(&engine);
        carrier.activate().wait().unwrap();
        let peer = accept(&listener);
        let taken = fill(&carrier);
        let send = |message: Message<'static>| carrier.send(message).wait().unwrap();
        let short = Duration::from_millis(100);
        let late = send(Message::from("late").niceness(98).lifetime(short));
        let lost = send(Message::from("depends").niceness(98).idempotent().after([&late]));
        let kept = send(Message::from("kept").niceness(98).lifetime(Duration::from_secs(600)));
        assert!(matches!(late.sent().wait().unwrap(), Outcome::Expired(_)));
        let because = Expiry::Antecedent(late.message().number());
        assert_eq!(lost.sent().wait().unwrap(), Outcome::Expired(because));
        reset(peer);
        let mut peer = accept(&listener);
        carrier.send(Message::from("end").niceness(98)).wait().unwrap();
        assert_eq!(beside_bulk(&mut peer, 2), ["kept", "end"], "{taken} of bulk");
        assert_eq!(kept.acked().wait().unwrap(), Outcome::Acked);
        // That it is sent again is up to each: what may not arrive twice is not.
        let supports = carrier.supports().wait().unwrap();
        assert!(supports.revival && !supports.unreliable && supports.antecedents);
        end(engine);
    });
}

#[test]
fn item_115_limits_are_errors_at_both_ends_and_cut_nothing() {
    on_both(60, |driver| {
        // The stack's: a field of two bytes has no room for more.
        let narrow = LengthPrefixed::default().width(Width::Two);
        let (engine, carrier, mut peer) = foreign_of(one(driver), narrow);
        let refused = carrier.send(pattern(1 << 16)).wait();
        let is_too_long = |error: &Error| {
            matches!(error, Error::Frame(FrameError::TooLong { len_max: 65_535, .. }))
        };
        assert!(refused.as_ref().is_err_and(is_too_long), "{refused:?}");
        carrier.send(pattern(65_535)).wait().unwrap();
        let mut whole = vec![0; 65_537];
        std::io::Read::read_exact(&mut peer, &mut whole).unwrap();
        assert!(whole[..2] == [255, 255] && whole[2..] == pattern(65_535));
        end(engine);
        // The receiver's own buffer, for Messages that do not say their length; by configuration.
        let small = limits(|limits| limits.unmeasured_message_bytes = 20_000);
        let builder = one(driver).limits(small);
        let (engine, carrier, mut peer) = foreign_of(builder, Lines::default().len_max(1 << 20));
        peer.write_all(b"a line\n").unwrap();
        assert_eq!(&*carrier.receive().wait().unwrap(), "a line");
        let receiving = carrier.receive();
        // The Carrier may end before all of it is written.
        let _ = peer.write_all(&[b'x'; 100_000]);
        let received = receiving.wait();
        assert!(matches!(received, Err(Error::Closed(CloseReason::Framing))), "{received:?}");
        let closed = CarrierState::Closed(CloseReason::Framing);
        assert_eq!(carrier.state().wait().unwrap(), closed);
        end(engine);
    });
}

/// Back-pressure by a bound on receives at the same time.
#[test]
fn item_116_bounded_concurrent_receives_hold_the_sender_up() {
    on_both(60, |driver| {
        let begun = Arc::new(AtomicU32::new(0));
        let open = Arc::new(AtomicU32::new(0));
        let few = limits(|limits| limits.async_handlers_per_connection = 3);
        let (count, gate) = (Arc::clone(&begun), Arc::clone(&open));
        let handler = async move |message: Message<'static>, to: CarrierRef<LengthPrefixed>| {
            count.fetch_add(1, Ordering::SeqCst);
            while gate.load(Ordering::SeqCst) == 0 {
                postring::sleep(Duration::from_millis(2)).await;
            }
            to.send(message).await
        };
        let builder = one(driver).limits(few);
        let engine = builder.respond_async("tcp://127.0.0.1:0", frames(), handler).start().unwrap();
        let mut peer = connect(&engine);
        let all: Vec<u8> = (0..50_u8).flat_map(|number| frame(&[number])).collect();
        peer.write_all(&all).unwrap();
        until("three are at work", || begun.load(Ordering::SeqCst) == 3);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(begun.load(Ordering::SeqCst), 3);
        open.store(1, Ordering::SeqCst);
        let mut answers: Vec<_> = (0..50).map(|_| read_frame(&mut peer).unwrap()[0]).collect();
        answers.sort_unstable();
        assert!(answers.into_iter().eq(0..50));
        end(engine);
    });
}

/// Back-pressure by a bound on unread bytes.
#[test]
fn item_116_bounded_unread_bytes_stall_the_sender_and_memory_stays_flat() {
    on_both(60, |driver| {
        let (listener, engine, here, there) = both(driver);
        let mut taken = 0_u32;
        // Until nothing has found room for a while: sockets grow slowly.
        let stalls = |taken: &mut u32| {
            !becomes(Duration::from_millis(300), || {
                let mut message = vec![0; 2000];
                message[..4].copy_from_slice(&taken.to_be_bytes());
                match here.try_send(message) {
                    Ok(()) => *taken += 1,
                    Err(TrySendError::Full(_)) => return false,
                    Err(error) => panic!("{error}"),
                }
                true
            })
        };
        while !stalls(&mut taken) {
            assert!(taken < 20_000, "40 MB were taken and nothing read");
        }
        let unread = listener.engine().unwrap().metrics().total().received_bytes;
        assert!(unread < 1 << 20, "{unread} bytes are with the receiver");
        for number in 0..taken {
            let message = there.receive().wait().unwrap();
            assert_eq!(message.bytes()[..4], number.to_be_bytes());
        }
        here.send("there is room").wait().unwrap();
        assert_eq!(text(&there.receive().wait().unwrap()), "there is room");
        end(engine);
    });
}
