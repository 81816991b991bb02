//! Chains as a receiver and as the ledger see them.

use std::sync::{Arc, Mutex};

use postring::{Engine, LengthPrefixed, Message, Reply};

use crate::process::errors;
use crate::{code, result, run};

/// An echo server that notes the messages in the order in which they come, by their number in the
/// order of sending.
fn noting() -> (Engine, Arc<Mutex<Vec<u64>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let note = move |message: Message<'_>, reply: Reply<'_, LengthPrefixed>| {
        let number = message.bytes().first_chunk().map(|head| u64::from_le_bytes(*head));
        // The low 20 bits are a place in the generator's table.
        notes.lock().expect("no panic").push(number.expect("each carries its number") >> 20);
        reply.send(message)
    };
    let server = Engine::builder()
        .unpinned(1)
        .respond_with("tcp://127.0.0.1:0", LengthPrefixed::default(), note)
        .start()
        .expect("a server");
    (server, seen)
}

/// Pairs of a message and the next one of the same eight that came before it.
fn overtaken(chain: &str) -> usize {
    let (server, seen) = noting();
    let address = server.local_addresses().concat();
    let output = run(&format!(
        "run {address} -c 1 --arrival burst:64@50ms -d 500ms --warmup 0s --json - --no-html -q \
         --class name=nice,share=50%,size=1400,niceness=5{chain} --class name=urgent{chain}"
    ));
    server.shutdown();
    server.wait().expect("it ends");
    let ledger = result(&output)["ledger"]["measured"]["messages"].clone();
    let seen = seen.lock().expect("no panic");
    assert_eq!(ledger["scheduled"].as_u64(), Some(seen.len() as u64), "{}", errors(&output));
    let mut place = vec![0; seen.len()];
    seen.iter().enumerate().for_each(|(at, number)| place[*number as usize] = at);
    let pairs = place.chunks(8).flat_map(|eight| eight.windows(2));
    pairs.filter(|pair| pair[1] < pair[0]).count()
}

#[test]
fn the_order_of_a_chain_is_kept_though_others_overtake() {
    assert!(overtaken("") > 0, "without chains the urgent ones go first");
    assert_eq!(overtaken(",chain=8"), 0);
}

/// What follows a discarded message is discarded, though it has no deadline itself.
#[test]
fn a_chain_expires_with_what_it_follows() {
    let output = run("run -c 2 -r 2k -d 500ms --warmup 0s --json - --no-html \
         --class name=hasty,share=10%,lifetime=1us,chain=4 --class name=patient,chain=4");
    assert!([0, 3].contains(&code(&output)), "{}", errors(&output));
    assert!(errors(&output).contains("chains of 4"), "{}", errors(&output));
    let value = result(&output);
    let messages = |at: usize, name: &str| {
        value["classes"][at]["ledger"]["messages"][name].as_u64().expect("a count")
    };
    let scheduled = messages(0, "scheduled");
    assert!(scheduled > 0 && messages(0, "expired") == scheduled, "all of them are too late");
    assert!(messages(1, "expired") > 0, "some follow one of those");
    assert!(messages(1, "on_time") > 0, "some do not");
    assert_eq!(value["classes"][1]["chain"], 4);
}

#[test]
fn chains_are_typed_with_one_length() {
    let lines = [
        ("run --class chain=1", 2, "from 2"),
        ("run --no-html --class chain=4 --class chain=5", 1, "one length"),
    ];
    for (line, wanted, hint) in lines {
        let output = run(line);
        assert_eq!(code(&output), wanted, "{line}: {}", errors(&output));
        assert!(errors(&output).contains(hint), "{line}: {}", errors(&output));
    }
}
