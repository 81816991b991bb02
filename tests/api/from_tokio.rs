//! Every verb from a tokio runtime, and tokio's own things on a core.

#[cfg(feature = "tokio")]
use postring::LengthPrefixed;
use postring::{CarrierRef, CarrierState, Message, TrySendError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn every_verb_works_from_a_runtime() {
    on_both(30, |driver| {
        let server = echo(driver);
        let address = server.local_addresses().remove(0);
        let carrier = server.initiate_with(&address, frames());
        runtime().block_on(async {
            assert_eq!(carrier.state().await.unwrap(), CarrierState::Inactive);
            carrier.activate().await.unwrap();
            for len in [0, 1, 4096, 100_000] {
                carrier.send(pattern(len)).await.unwrap();
                assert!(carrier.receive().await.unwrap().bytes() == pattern(len));
            }
            carrier.try_send("tried").map_err(|_: TrySendError<Message<'_>>| "full").unwrap();
            assert_eq!(carrier.receive().await.unwrap().bytes(), b"tried");
            assert_eq!(carrier.queued().await.unwrap(), 0);
            assert!(carrier.peer_address().await.unwrap().is_some());
            carrier.close().await.unwrap();
            assert!(matches!(carrier.state().await.unwrap(), CarrierState::Closed(_)));
        });
        end(server);
    });
}

#[test]
fn many_tasks_share_one_carrier() {
    on_both(30, |driver| {
        let server = echo(driver);
        let carrier = server.initiate_with(&server.local_addresses()[0], frames());
        let carrier_ref: CarrierRef<_> = *carrier;
        runtime().block_on(async {
            let tasks: Vec<_> = (0..50_u32)
                .map(|task| {
                    tokio::spawn(async move {
                        for at in 0..20_u32 {
                            let number = task * 20 + at;
                            carrier_ref.send(number.to_be_bytes().to_vec()).await.unwrap();
                        }
                    })
                })
                .collect();
            let mut got = Vec::new();
            for _ in 0..1000 {
                let message = carrier_ref.receive().await.unwrap();
                got.push(u32::from_be_bytes(message.bytes().try_into().unwrap()));
            }
            for task in tasks {
                task.await.unwrap();
            }
            // Each task's own numbers are in order, and each is there once.
            for task in 0..50 {
                let own: Vec<_> = got.iter().filter(|number| **number / 20 == task).collect();
                assert!(own.is_sorted() && own.len() == 20, "{own:?}");
            }
        });
        drop(carrier);
        end(server);
    });
}

#[test]
fn a_listener_is_accepted_from_a_runtime() {
    on_both(30, |driver| {
        let listener = one(driver).listen_with("tcp://127.0.0.1:0", frames()).unwrap();
        let place = place(listener.engine().unwrap());
        runtime().block_on(async {
            for _ in 0..10 {
                let mut peer = tokio::net::TcpStream::connect(&place).await.unwrap();
                let carrier = listener.accept().await.unwrap();
                peer.write_all(&frame(b"hello")).await.unwrap();
                let message = carrier.receive().await.unwrap();
                carrier.send(message).await.unwrap();
                let mut answer = [0; 9];
                peer.read_exact(&mut answer).await.unwrap();
                assert_eq!(&answer[4..], b"hello");
            }
        });
    });
}

/// tokio's sockets and timers work in a handler on a core that has entered a runtime.
#[cfg(feature = "tokio")]
#[test]
fn tokio_works_on_a_core() {
    use std::io::Write;
    on_both(30, |driver| {
        let runtime = runtime();
        let other = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let there = other.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((mut stream, _)) = other.accept().await {
                stream.write_all(b"from tokio").await.unwrap();
            }
        });
        let handler = async move |_: Message<'static>, carrier: CarrierRef<LengthPrefixed>| {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let mut stream = tokio::net::TcpStream::connect(there).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            carrier.send(answer).await
        };
        let engine = one(driver)
            .tokio(runtime.handle().clone())
            .respond_async("tcp://127.0.0.1:0", frames(), handler)
            .start()
            .unwrap();
        let mut peer = connect(&engine);
        for _ in 0..3 {
            peer.write_all(&frame(b"ask")).unwrap();
            assert_eq!(read_frame(&mut peer).unwrap(), b"from tokio");
        }
        end(engine);
    });
}
