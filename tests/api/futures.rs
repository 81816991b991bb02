//! The traits of the `futures` crates: Stream for receiving, accepting and events, Sink for
//! sending. No combinators: what they would call is called here.

use std::future::poll_fn;
use std::pin::Pin;

use futures_core::Stream;
use futures_sink::Sink;
use postring::{CloseReason, Error, Event, LengthPrefixed, Message, Source};

use crate::support::*;

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

async fn feed(source: &mut Source<LengthPrefixed>, message: Message<'static>) {
    poll_fn(|context| Pin::new(&mut *source).poll_ready(context)).await.unwrap();
    Pin::new(source).start_send(message).unwrap();
}

async fn close(source: &mut Source<LengthPrefixed>) -> postring::Result<()> {
    poll_fn(|context| Pin::new(&mut *source).poll_close(context)).await
}

#[tokio::test]
async fn a_conversation_in_streams_and_sinks() {
    let driver = postring::DriverChoice::Auto;
    let mut listener = one(driver).listen_with("tcp://127.0.0.1:0", frames()).unwrap();
    let address = listener.local_addresses().remove(0);
    let server = tokio::spawn(async move {
        let (mut source, mut sink) = next(&mut listener).await.unwrap().split();
        let mut echoed = 0;
        while let Some(message) = next(&mut sink).await {
            feed(&mut source, message.unwrap()).await;
            echoed += 1;
        }
        close(&mut source).await.unwrap();
        echoed
    });
    let engine = one(driver).start().unwrap();
    let carrier = engine.initiate_with(&address, frames());
    let mut events = carrier.events().unwrap();
    let (mut source, mut sink) = carrier.split();
    let sender = tokio::spawn(async move {
        for number in 0..500_u16 {
            feed(&mut source, Message::new(number.to_be_bytes().to_vec())).await;
        }
        close(&mut source).await
    });
    for number in 0..500_u16 {
        let message = next(&mut sink).await.unwrap().unwrap();
        assert_eq!(message.bytes(), number.to_be_bytes());
    }
    assert!(next(&mut sink).await.is_none(), "the peer has ended in order");
    assert!(next(&mut sink).await.is_none(), "a stream that is over stays over");
    sender.await.unwrap().unwrap();
    assert_eq!(server.await.unwrap(), 500);
    let mut sent = 0;
    loop {
        match next(&mut events).await.unwrap() {
            Event::Sent(_) => sent += 1,
            Event::Closed(reason) => break assert_ne!(reason, CloseReason::Aborted),
            _ => {}
        }
    }
    assert_eq!(sent, 500);
    assert_eq!(next(&mut events).await, None);
    tokio::task::spawn_blocking(|| end(engine)).await.unwrap();
}

#[tokio::test]
async fn a_sink_that_breaks_gives_one_error_and_a_misused_one_does_not_panic() {
    let engine = one(postring::DriverChoice::Auto).start().unwrap();
    let (_holder, address) = nobody();
    let mut sink = engine.initiate_with(&address, frames()).into_sink();
    assert!(matches!(next(&mut sink).await, Some(Err(Error::Closed(_)))));
    assert!(next(&mut sink).await.is_none());
    let mut source = engine.initiate_with(&address, frames()).into_source();
    Pin::new(&mut source).start_send("one".into()).unwrap();
    let again = Pin::new(&mut source).start_send("two".into());
    assert!(matches!(again, Err(Error::Message(_))), "{again:?}");
    assert!(close(&mut source).await.is_err(), "there is nobody to send to");
    tokio::task::spawn_blocking(|| end(engine)).await.unwrap();
}
