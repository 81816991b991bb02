//! Messages in parts, received and sent, with one handle for each (draft §2.2).
//!
//! Absent: how single framers cut; that stands in `tests/framers`.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use postring::{
    Carrier, CarrierRef, CarrierState, CloseReason, DriverChoice, Engine, Error, Flow, FrameError,
    Framer, LengthPrefixed, Message, Outcome, Part, Properties, TrySendError, Unframed,
};

use crate::support::*;

type Received = Part<Message<'static>>;

fn pair_with<F: Framer>(driver: DriverChoice, framer: F) -> (Engine, Carrier<F>, TcpStream) {
    let engine = one(driver).start().unwrap();
    let (carrier, listener) = to(&engine, framer);
    let peer = accept(&listener);
    (engine, carrier, peer)
}

fn to<F: Framer>(engine: &Engine, framer: F) -> (Carrier<F>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let carrier = engine.initiate_with(&address, framer);
    carrier.activate().wait().unwrap();
    (carrier, listener)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// All parts of one Message, each checked against the limits.
fn whole(min: usize, max: usize, mut next: impl FnMut() -> Received) -> (u64, Vec<u8>, usize) {
    let (mut handle, mut content, mut parts) = (None, Vec::new(), 0);
    loop {
        let part = next();
        assert_eq!(*handle.get_or_insert_with(|| part.handle()), part.handle());
        assert!(part.len() <= max, "{} of at most {max}", part.len());
        assert!(part.len() >= min || part.is_complete(), "{} of at least {min}", part.len());
        content.extend_from_slice(part.bytes());
        parts += 1;
        if part.is_complete() {
            return (handle.unwrap(), content, parts);
        }
    }
}

/// What was received before anybody asked for parts is cut when they do.
#[test]
fn messages_that_wait_whole_are_cut() {
    on_both(30, |driver| {
        let (engine, carrier, mut peer) = pair_with(driver, frames());
        for len in [25, 0, 10, 11] {
            peer.write_all(&frame(&pattern(len))).unwrap();
        }
        until("they came", || engine.metrics().total().received_messages == 4);
        let next = || carrier.receive_partial(3, 10).wait().unwrap();
        for (handle, len, parts) in [(1, 25, 3), (2, 0, 1), (3, 10, 1), (4, 11, 2)] {
            assert_eq!(whole(3, 10, next), (handle, pattern(len), parts));
        }
        end(engine);
    });
}

/// What came is too little for a whole Message, and nothing more comes.
#[test]
fn a_part_is_taken_of_what_was_kept_before() {
    on_both(30, |driver| {
        let (engine, carrier, mut peer) = pair_with(driver, frames());
        peer.write_all(&frame(&pattern(1000))[..204]).unwrap();
        until("it came", || engine.metrics().total().received_bytes == 204);
        let part = carrier.receive_partial(1, 100).wait().unwrap();
        assert_eq!((part.bytes(), part.is_complete()), (&pattern(1000)[..100], false));
        let part = carrier.receive_partial(100, 100).wait().unwrap();
        assert_eq!(part.bytes(), &pattern(1000)[100..200]);
        end(engine);
    });
}

#[test]
fn a_receive_after_a_part_gives_the_rest() {
    on_both(30, |driver| {
        let (engine, carrier, mut peer) = pair_with(driver, frames());
        // Asked before anything has come, so that it is cut as it comes.
        let first = carrier.receive_partial(1, 10);
        let reference: CarrierRef<_> = *carrier;
        let waits = std::thread::spawn(move || first.wait().unwrap());
        std::thread::sleep(Duration::from_millis(20));
        peer.write_all(&[frame(&pattern(50_000)), frame(b"next")].concat()).unwrap();
        let first = waits.join().unwrap();
        assert!(!first.is_complete() && first.len() <= 10);
        let rest = reference.receive().wait().unwrap();
        assert!(rest.is_complete());
        assert!([first.bytes(), rest.bytes()].concat() == pattern(50_000));
        assert_eq!(carrier.receive().wait().unwrap().text().unwrap(), "next");
        end(engine);
    });
}

/// One Message per direction, complete with the peer's end alone.
#[test]
fn a_stream_is_one_message_that_is_complete_at_its_end() {
    on_both(30, |driver| {
        let (engine, carrier, mut peer) = pair_with(driver, Unframed);
        peer.write_all(&pattern(10)).unwrap();
        let mut first = carrier.receive_partial(15, 100);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(10));
            assert!(std::pin::Pin::new(&mut first).poll(&mut context).is_pending(), "too short");
        }
        peer.write_all(&pattern(20)[10..]).unwrap();
        let first = first.wait().unwrap();
        assert_eq!(
            (first.bytes(), first.is_complete(), first.handle()),
            (&pattern(20)[..], false, 1)
        );
        peer.write_all(&[7; 1000]).unwrap();
        peer.write_all(&[8; 5]).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        // What is left at the end has no other part to come with.
        let (handle, content, _) =
            whole(5, 500, || carrier.receive_partial(100, 500).wait().unwrap());
        assert_eq!((handle, content.len()), (1, 1005));
        let error = carrier.receive_partial(1, 1).wait().unwrap_err();
        assert!(matches!(error, Error::Closed(CloseReason::Finished)), "{error:?}");
        // The other direction is still open: its own end completes its Message.
        let mut message = carrier.begin(Properties::new());
        message.send("and ", false).wait().unwrap();
        message.send("yet", true).wait().unwrap();
        carrier.close().wait().unwrap();
        let mut all = String::new();
        peer.read_to_string(&mut all).unwrap();
        assert_eq!(all, "and yet");
        end(engine);
    });
}

#[test]
fn a_handler_of_parts_sees_them_and_stops() {
    on_both(30, |driver| {
        let (engine, carrier, mut peer) = pair_with(driver, frames());
        let (said, heard) = mpsc::channel();
        carrier
            .ready_partial(10, 1000, move |part: Part<Message<'_>>| {
                let seen = (part.handle(), part.is_complete(), part.bytes().to_vec());
                said.send(seen).unwrap();
                if part.handle() == 2 && part.is_complete() { Flow::Stop } else { Flow::Continue }
            })
            .unwrap();
        for len in [5000, 5, 7] {
            peer.write_all(&frame(&pattern(len))).unwrap();
        }
        let mut content = Vec::new();
        while let Ok((handle, complete, bytes)) = heard.recv_timeout(SOON) {
            assert!(bytes.len() <= 1000);
            content.extend(bytes);
            if complete && handle == 1 {
                assert!(content == pattern(5000));
                content.clear();
            }
        }
        assert_eq!(content, pattern(5), "the handler is dropped after it said stop");
        assert_eq!(carrier.receive().wait().unwrap().bytes(), pattern(7));
        end(engine);
    });
}

/// Nothing is taken from the peer but for a receive.
#[test]
fn parts_are_pulled() {
    on_both(40, |driver| {
        let (engine, carrier, mut peer) = pair_with(driver, frames().len_max(200 << 20));
        peer.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        drop(carrier.receive_partial(1, 1000).wait_briefly());
        peer.write_all(&(150_u32 << 20).to_be_bytes()).unwrap();
        let mut sent = 0;
        while sent < 150 << 20
            && let Ok(wrote) = peer.write(&[7; 60_000])
        {
            sent += wrote;
        }
        assert!(sent < 100 << 20, "{sent} bytes were taken without a receive");
        assert!(engine.metrics().total().received_bytes < 1 << 20);
        let part = carrier.receive_partial(1, 1000).wait().unwrap();
        assert!((1..=1000).contains(&part.len()) && !part.is_complete());
        carrier.abort();
        end(engine);
    });
}

trait Brief: Future + Unpin + Sized {
    /// Polled once.
    fn wait_briefly(mut self) -> Self {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = std::pin::Pin::new(&mut self).poll(&mut context);
        self
    }
}

impl<T: Future + Unpin> Brief for T {}

/// A limit is an error, never a cut.
#[test]
fn a_message_beyond_the_framers_limit_is_an_error_in_parts_too() {
    on_both(30, |driver| {
        let (engine, carrier, mut peer) = pair_with(driver, LengthPrefixed::default().len_max(99));
        let mut message = carrier.begin(Properties::new().total_len(100));
        let error = message.send("x", false).wait().unwrap_err();
        assert!(matches!(error, Error::Frame(FrameError::TooLong { .. })), "{error:?}");
        carrier.send("still well").wait().unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"still well");
        let receiving = carrier.receive_partial(1, 10);
        peer.write_all(&frame(&[7; 100])).unwrap();
        let error = receiving.wait().unwrap_err();
        assert!(matches!(error, Error::Closed(CloseReason::Framing)), "{error:?}");
        end(engine);
    });
}

/// The parts are one Message for the peer, and nothing comes between them.
#[test]
fn a_message_goes_in_parts_and_others_wait_for_its_end() {
    on_both(30, |driver| {
        let (engine, carrier, mut peer) = pair_with(driver, frames());
        carrier.send("before").wait().unwrap();
        let mut message = carrier.begin(Properties::new().total_len(50_000));
        let whole = pattern(50_000);
        let first = message.send(&whole[..10], false).wait().unwrap();
        assert!(matches!(carrier.try_send("between"), Ok(()) | Err(TrySendError::Full(_))));
        let reference: CarrierRef<_> = *carrier;
        let waits = std::thread::spawn(move || reference.send("after").wait().unwrap());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waits.is_finished(), "a message came between two parts");
        for part in whole[10..].chunks(7000) {
            message.send(part, false).wait().unwrap();
        }
        assert!(!message.is_complete());
        let last = message.send("", true).wait().unwrap();
        assert!(message.is_complete());
        assert_eq!((first.message(), first.message().number()), (last.message(), 2));
        waits.join().unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"before");
        assert!(read_frame(&mut peer).unwrap() == whole);
        let mut after = [read_frame(&mut peer).unwrap(), read_frame(&mut peer).unwrap()];
        after.sort();
        assert_eq!(after, [&b"after"[..], b"between"]);
        assert_eq!(first.sent().wait().unwrap(), Outcome::Sent);
        assert_eq!(last.acked().wait().unwrap(), Outcome::Acked);
        let error = message.send("more", true).wait().unwrap_err();
        assert!(matches!(error, Error::Message(_)), "{error:?}");
        end(engine);
    });
}

#[test]
fn parts_beside_ordered_messages_keep_the_framing() {
    on_both(30, |driver| {
        let (engine, carrier, mut peer) = pair_with(driver, frames());
        let bulk: CarrierRef<_> = *carrier;
        let others = std::thread::spawn(move || {
            for at in 0..200_u32 {
                let message = Message::from(vec![7; 2000]).niceness(at % 3);
                bulk.send(message).wait().unwrap();
            }
        });
        let reader = std::thread::spawn(move || {
            let mut long = 0;
            for _ in 0..210 {
                let payload = read_frame(&mut peer).unwrap();
                if payload.len() == 30_000 {
                    assert!(payload == pattern(30_000));
                    long += 1;
                } else {
                    assert!(payload == [7; 2000]);
                }
            }
            long
        });
        for _ in 0..10 {
            let mut message = carrier.begin(Properties::new().total_len(30_000));
            for part in pattern(30_000).chunks(9_999) {
                message.send(part.to_vec(), false).wait().unwrap();
            }
            let receipt = message.send("", true).wait().unwrap();
            assert_eq!(receipt.sent().wait().unwrap(), Outcome::Sent);
        }
        others.join().unwrap();
        assert_eq!(reader.join().unwrap(), 10);
        end(engine);
    });
}

/// Nothing leaves any more that could tell of it.
#[test]
fn an_empty_last_part_after_all_others_have_left_is_sent() {
    on_both(30, |driver| {
        let (engine, carrier, mut peer) = pair_with(driver, frames());
        let mut message = carrier.begin(Properties::new().total_len(5));
        message.send("whole", false).wait().unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"whole");
        let receipt = message.send("", true).wait().unwrap();
        assert_eq!(receipt.sent().wait().unwrap(), Outcome::Sent);
        assert_eq!(receipt.acked().wait().unwrap(), Outcome::Acked);
        // The way is free again.
        carrier.send("next").wait().unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"next");
        end(engine);
    });
}

#[test]
fn parts_that_cannot_be_are_errors() {
    on_both(30, |driver| {
        let (engine, carrier, mut peer) = pair_with(driver, frames());
        let mut unmeasured = carrier.begin(Properties::new());
        let error = unmeasured.send("x", false).wait().unwrap_err();
        assert!(matches!(error, Error::Frame(FrameError::Malformed(_))), "{error:?}");
        for wish in [
            Properties::new().total_len(9).niceness(1),
            Properties::new().total_len(9).lifetime(Duration::from_secs(9)),
        ] {
            let error = carrier.begin(wish).send("x", false).wait().unwrap_err();
            assert!(matches!(error, Error::Message(_)), "{error:?}");
        }
        let mut message = carrier.begin(Properties::new().total_len(2));
        message.send("a", false).wait().unwrap();
        let error = message.send("too much", true).wait().unwrap_err();
        assert!(matches!(error, Error::Frame(FrameError::Malformed(_))), "{error:?}");
        message.send("b", true).wait().unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"ab");
        // A single part that is the last one is a Message as any other.
        carrier.begin(Properties::new()).send("alone", true).wait().unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"alone");
        end(engine);
    });
}

#[test]
fn a_handle_that_is_dropped_half_way_aborts() {
    on_both(30, |driver| {
        let (engine, carrier, mut peer) = pair_with(driver, frames());
        drop(carrier.begin(Properties::new().total_len(2)));
        let mut message = carrier.begin(Properties::new().total_len(2));
        message.send("a", false).wait().unwrap();
        let reference: CarrierRef<_> = *carrier;
        let waits = std::thread::spawn(move || reference.send("never").wait());
        std::thread::sleep(Duration::from_millis(20));
        drop(message);
        let error = waits.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Closed(CloseReason::Aborted)), "{error:?}");
        let aborted = CarrierState::Closed(CloseReason::Aborted);
        until("it is aborted", || carrier.state().wait().unwrap() == aborted);
        let mut rest = Vec::new();
        let broken = peer.read_to_end(&mut rest).unwrap_err();
        assert!(is_broken(&broken), "{broken:?}");
        end(engine);
    });
}

/// Both ends in parts, on their own cores; the sender is held up by the receiver.
#[test]
fn parts_travel_from_core_to_core() {
    on_both(60, |driver| {
        const LEN: usize = 20 << 20;
        let listener = threads(driver, 2).listen_with("tcp://127.0.0.1:0", frames()).unwrap();
        let engine = listener.engine().unwrap();
        let address = engine.local_addresses().remove(0);
        let (said, heard) = mpsc::channel();
        engine
            .spawn_on(0, move || async move {
                let carrier = postring::initiate_with(&address, frames());
                let mut file = carrier.begin(Properties::new().total_len(LEN as u64));
                for at in (0..LEN).step_by(1 << 20) {
                    file.send(vec![(at >> 20) as u8; 1 << 20], false).await.unwrap();
                }
                file.send("", true).await.unwrap();
                carrier.send("behind").await.unwrap();
                said.send(carrier.close().await).unwrap();
            })
            .unwrap();
        let carrier = listener.accept().wait().unwrap();
        let (done, over) = mpsc::channel();
        engine
            .spawn_on(1, move || async move {
                let mut len = 0;
                loop {
                    let part = carrier.receive_partial(10_000, 50_000).await.unwrap();
                    let right = part.bytes().iter().enumerate();
                    assert!(right.into_iter().all(|(at, byte)| *byte == ((len + at) >> 20) as u8));
                    len += part.len();
                    if part.is_complete() {
                        break;
                    }
                }
                let behind = carrier.receive_partial(10, 50_000).await.unwrap();
                done.send((len, behind.handle(), behind.text().unwrap().to_owned())).unwrap();
            })
            .unwrap();
        let received = over.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(received, (LEN, 2, "behind".to_owned()));
        heard.recv_timeout(SOON).unwrap().unwrap();
        engine.shutdown();
    });
}

#[test]
fn a_loss_within_a_received_message_is_one_error_and_then_goes_on() {
    on_both(30, |driver| {
        let engine = one(driver).start().unwrap();
        let (carrier, listener) = to(&engine, frames());
        let mut peer = accept(&listener);
        let first = carrier.receive_partial(1, 100).wait_briefly();
        peer.write_all(&frame(&pattern(1000))[..204]).unwrap();
        let first = first.wait().unwrap();
        assert_eq!((first.handle(), first.is_complete()), (1, false));
        let rest = carrier.receive_partial(500, 1000).wait_briefly();
        reset(peer);
        let error = rest.wait().unwrap_err();
        assert!(matches!(error, Error::Message(_)), "{error:?}");
        let next = carrier.receive_partial(500, 1000).wait_briefly();
        let mut peer = accept(&listener);
        peer.write_all(&frame(b"anew")).unwrap();
        let next = next.wait().unwrap();
        assert_eq!((next.handle(), next.bytes(), next.is_complete()), (2, &b"anew"[..], true));
        end(engine);
    });
}

#[test]
fn a_loss_within_a_message_that_is_sent_breaks_that_one_off() {
    on_both(30, |driver| {
        let engine = one(driver).start().unwrap();
        let (carrier, listener) = to(&engine, frames());
        let mut peer = accept(&listener);
        let mut message = carrier.begin(Properties::new().total_len(1000));
        let receipt = message.send("half", false).wait().unwrap();
        peer.read_exact(&mut [0; 8]).unwrap();
        let reference: CarrierRef<_> = *carrier;
        let waits = std::thread::spawn(move || reference.send("whole").wait().unwrap());
        std::thread::sleep(Duration::from_millis(20));
        reset(peer);
        assert_eq!(receipt.sent().wait().unwrap(), Outcome::MayHaveArrived);
        waits.join().unwrap();
        let mut peer = accept(&listener);
        assert_eq!(read_frame(&mut peer).unwrap(), b"whole");
        let error = message.send("half", true).wait().unwrap_err();
        assert!(matches!(error, Error::Message(_)), "{error:?}");
        end(engine);
    });
}

#[test]
fn a_message_in_one_part_is_as_long_as_was_stated() {
    on_both(20, |driver| {
        let (engine, carrier, mut peer) = pair_with(driver, frames());
        for part in ["too long", "few"] {
            let mut message = carrier.begin(Properties::new().total_len(6));
            let refused = message.send(part, true).wait();
            assert!(matches!(refused, Err(Error::Frame(_))), "{part}: {refused:?}");
        }
        let mut message = carrier.begin(Properties::new().total_len(6));
        message.send("Hello!", true).wait().unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"Hello!");
        end(engine);
    });
}
