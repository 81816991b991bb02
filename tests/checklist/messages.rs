//! Items 17 to 28: Messages, whole and in streams, and who asks for them (draft §2.2).

use std::future::Future;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::time::Duration;

use postring::{CarrierRef, CloseReason, Error, FrameError, LengthPrefixed, Unframed};

use crate::pairs::*;
use crate::support::*;

#[test]
fn item_017_small_file_sized_and_unbounded_content() {
    on_both(60, |driver| {
        let (_listener, engine, here, there) = both(driver);
        for len in [0, 1, 1400, 8 << 20] {
            here.send(pattern(len)).wait().unwrap();
            assert!(there.receive().wait().unwrap().bytes() == pattern(len), "{len} bytes");
        }
        end(engine);
        // Nobody knows how long it gets: more than any buffer of the engine, in parts.
        let (engine, carrier, mut peer) = foreign_of(one(driver), Unframed);
        const PIECES: usize = 1000;
        let piece = pattern(40_000);
        let sender = std::thread::spawn(move || {
            (0..PIECES).for_each(|_| peer.write_all(&piece).unwrap());
            peer
        });
        let mut received = 0;
        while received < PIECES * 40_000 {
            let part = carrier.receive().wait().unwrap();
            assert!(!part.is_complete() && part.len() < 1 << 20);
            received += part.len();
        }
        assert_eq!(received, PIECES * 40_000);
        drop(sender.join().unwrap());
        end(engine);
    });
}

#[test]
fn item_019_a_complete_message_comes_whole_or_not_at_all() {
    on_both(60, |driver| {
        let off = timeouts(|timeouts| timeouts.dormant = Duration::ZERO);
        let (engine, carrier, mut peer) = foreign_of(one(driver).timeouts(off), frames());
        peer.write_all(&frame(&pattern(100_000))).unwrap();
        assert!(carrier.receive().wait().unwrap().bytes() == pattern(100_000));
        let receiving = carrier.receive();
        let cut = frame(&pattern(100_000));
        peer.write_all(&cut[..90_000]).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let nothing = receiving.wait();
        assert!(matches!(nothing, Err(Error::Closed(_))), "{:?}", nothing.map(|m| m.len()));
        end(engine);
    });
}

#[test]
fn item_020_a_message_above_the_limit_is_an_error_at_either_end() {
    on_both(60, |driver| {
        let small = LengthPrefixed::default().len_max(1000);
        let (engine, carrier, mut peer) = foreign_of(one(driver), small);
        let sent = carrier.send(pattern(1001)).wait();
        assert!(matches!(sent, Err(Error::Frame(FrameError::TooLong { .. }))), "{sent:?}");
        carrier.send(pattern(1000)).wait().unwrap();
        assert!(read_frame(&mut peer).unwrap() == pattern(1000), "nothing of the longer one");
        let receiving = carrier.receive();
        peer.write_all(&frame(&pattern(1001))).unwrap();
        let received = receiving.wait();
        assert!(matches!(received, Err(Error::Closed(CloseReason::Framing))), "{received:?}");
        end(engine);
    });
}

#[test]
fn item_023_a_complete_receive_has_nothing_to_tune_and_gives_no_parts() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let mut receiving = carrier.receive();
        let bytes = frame(&pattern(15_000));
        // In pieces, each of which is received before the next one comes.
        for piece in bytes[..9000].chunks(3000) {
            let before = engine.metrics().total().received_bytes;
            peer.write_all(piece).unwrap();
            until("it came", || engine.metrics().total().received_bytes > before);
            let mut context = Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut receiving).poll(&mut context).is_pending(), "a part is none");
        }
        let sender = std::thread::spawn(move || {
            peer.write_all(&bytes[9000..]).unwrap();
            peer
        });
        let message = receiving.wait().unwrap();
        assert!(message.is_complete() && message.bytes() == pattern(15_000));
        drop(sender.join().unwrap());
        end(engine);
        // Where nothing bounds a Message, the same verb cannot promise that.
        let (engine, carrier, mut peer) = foreign_of(one(driver), Unframed);
        peer.write_all(b"without an end").unwrap();
        assert!(!carrier.receive().wait().unwrap().is_complete());
        end(engine);
    });
}

/// Each Message is sent by the word that the one before it has left.
#[test]
fn item_024_notifications_of_a_message_pace_sending() {
    fn send_next(carrier: CarrierRef<LengthPrefixed>, count: Arc<AtomicU32>) {
        let number = count.fetch_add(1, Ordering::SeqCst);
        if number < 20 {
            let next: postring::Callback = Box::new(move || send_next(carrier, count));
            carrier.send_msg(number.to_string(), Some(next), None, None).unwrap();
        }
    }
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let count = Arc::new(AtomicU32::new(0));
        send_next(*carrier, Arc::clone(&count));
        for number in 0..20 {
            assert_eq!(read_frame(&mut peer).unwrap(), number.to_string().as_bytes());
        }
        until("all have left", || count.load(Ordering::SeqCst) == 21);
        end(engine);
    });
}

#[test]
fn item_025_without_a_scheduled_receive_the_sender_stalls() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        peer.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let piece = frame(&pattern(60_000));
        let mut whole = 0;
        let rest = loop {
            assert!(whole < 2000, "120 MB were taken without a receive");
            match peer.write(&piece) {
                Ok(wrote) if wrote == piece.len() => whole += 1,
                Ok(wrote) => break wrote,
                Err(_) => break 0,
            }
        };
        // Demand gets it going again, and nothing of it was lost.
        peer.set_write_timeout(Some(SOON)).unwrap();
        let sender = std::thread::spawn(move || {
            peer.write_all(&piece[rest..]).unwrap();
            peer
        });
        for _ in 0..=whole {
            assert!(carrier.receive().wait().unwrap().bytes() == pattern(60_000));
        }
        drop(sender.join().unwrap());
        end(engine);
    });
}

#[test]
fn item_026_the_buffer_of_ready_messages_is_bounded() {
    on_both(60, |driver| {
        let few = limits(|limits| limits.receive_queue_messages = 4);
        let (engine, carrier, mut peer) = foreign_of(one(driver).limits(few), frames());
        let all: Vec<u8> = (0..100_u8).flat_map(|number| frame(&[number])).collect();
        peer.write_all(&all).unwrap();
        until("some are ready", || engine.metrics().total().received_messages >= 4);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(engine.metrics().total().received_messages, 4);
        for number in 0..100_u8 {
            assert_eq!(carrier.receive().wait().unwrap().bytes(), [number]);
        }
        end(engine);
    });
}

#[test]
fn item_027_a_byte_stream_is_one_message_complete_at_its_end() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign_of(one(driver), Unframed);
        for piece in ["a stream ", "has no ends ", "inside"] {
            peer.write_all(piece.as_bytes()).unwrap();
            let part = carrier.receive().wait().unwrap();
            assert_eq!((text(&part).as_str(), part.is_complete()), (piece, false));
        }
        peer.shutdown(Shutdown::Write).unwrap();
        let last = carrier.receive().wait().unwrap();
        assert!(last.is_complete() && last.is_empty());
        let error = carrier.receive().wait().unwrap_err();
        assert!(matches!(error, Error::Closed(CloseReason::Finished)), "{error:?}");
        // The other direction is a Message of its own, and still open.
        carrier.send("one").wait().unwrap();
        carrier.close().wait().unwrap();
        let mut all = String::new();
        peer.read_to_string(&mut all).unwrap();
        assert_eq!(all, "one");
        end(engine);
    });
}

#[test]
fn item_045_a_message_handed_over_has_a_number_and_cannot_be_taken_back() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let (told, heard) = mpsc::channel();
        carrier.on_sent(move |message| told.send(message.number()).unwrap()).unwrap();
        for number in 1..=3 {
            let receipt = carrier.send(number.to_string()).wait().unwrap();
            assert_eq!(receipt.message().number(), number);
            // Dropped, and sent all the same.
            drop(receipt);
            assert_eq!(heard.recv_timeout(SOON), Ok(number));
            assert_eq!(read_frame(&mut peer).unwrap(), number.to_string().as_bytes());
        }
        end(engine);
    });
}
