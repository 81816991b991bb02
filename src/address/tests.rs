//! Addresses as they are written: good ones, bad ones, and that none panics.

use proptest::prelude::*;

use super::*;

fn why(text: &str) -> String {
    match text.parse::<Address>() {
        Err(Error::Address { address, why }) => {
            assert_eq!(address, text, "the error names the address");
            why
        }
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn good_addresses_have_one_written_form() {
    for (text, written) in [
        ("tcp://127.0.0.1:7000", "tcp://127.0.0.1:7000"),
        ("tcp://[::ffff:127.0.0.1]:7000", "tcp://127.0.0.1:7000"),
        ("TCP://Example.ORG:0", "tcp://example.org:0"),
        ("tcp://[::1]:65535", "tcp://[::1]:65535"),
        ("tcp://[fe80::1%2]:80", "tcp://[fe80::1%2]:80"),
        ("tcp://*:80", "tcp://[::]:80"),
        ("tcp://:80", "tcp://[::]:80"),
        ("udp://Example.org:53", "udp://example.org:53"),
        ("udp://[::1]:53", "udp://[::1]:53"),
        ("udp://239.1.2.3:5000", "udp://239.1.2.3:5000"),
        ("tcp://a_b-c.example.:80", "tcp://a_b-c.example.:80"),
        ("unix:///run/server.sock", "unix:///run/server.sock"),
        ("unix://@server", "unix://@server"),
        ("memory://Echo-1", "memory://Echo-1"),
    ] {
        let address: Address = text.parse().unwrap();
        assert_eq!(address.to_string(), written);
        assert_eq!(written.parse::<Address>().unwrap(), address);
    }
}

#[test]
fn an_ipv4_address_in_ipv6_form_is_the_ipv4_address() {
    let form: SocketAddr = "[::ffff:192.0.2.1%3]:7".parse().unwrap();
    for address in [Address::from(form), Address::from(SocketAddress::Tcp(form))] {
        assert_eq!(address.to_string(), "tcp://192.0.2.1:7");
        assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
    }
}

#[test]
fn literals_need_no_resolver_and_names_do() {
    let literal = |text: &str| text.parse::<Address>().unwrap().literal();
    let any = SocketAddress::Tcp("[::]:7".parse().unwrap());
    assert_eq!(literal("tcp://*:7"), Some(any.clone()));
    assert_eq!(literal("unix://@x"), Some(SocketAddress::Unix("\0x".into())));
    assert_eq!(literal("tcp://localhost:7"), None);
    assert_eq!("tcp://:7".parse::<Address>().unwrap().resolve_blocking().unwrap(), [any]);
    let found = "tcp://localhost:7".parse::<Address>().unwrap().resolve_blocking().unwrap();
    let is_loopback = |address: &SocketAddress| match address {
        SocketAddress::Tcp(ip) => ip.ip().is_loopback() && ip.port() == 7,
        _ => false,
    };
    assert!(!found.is_empty() && found.iter().all(is_loopback), "{found:?}");
}

#[test]
fn bad_addresses_say_what_would_be_right() {
    for (text, hint) in [
        ("example.org:7000", "write tcp://example.org:7000"),
        ("post://example.org:7000", "write tcp://example.org:7000"),
        ("QUIC://[::]:1", "quic:// is not in this version; write tcp://[::]:1"),
        ("memory://", "for example memory://echo"),
        ("memory://a/b", "for example memory://echo"),
        ("http://example.org", "unknown scheme \"http\"; this version has tcp://"),
        ("", "no scheme"),
        ("/run/server", "unix://"),
        ("tcp://127.0.0.1", "no port"),
        ("tcp://127.0.0.1:65536", "0 to 65535"),
        ("tcp://127.0.0.1:+80", "0 to 65535"),
        ("tcp://127.0.0.1:", "0 to 65535"),
        ("tcp://::1:80", "brackets"),
        ("tcp://[::1:80", "brackets"),
        ("tcp://[::1%eth0]:80", "number of an interface"),
        ("tcp://[127.0.0.1]:80", "IPv6"),
        ("tcp://1.2.3:80", "not an IPv4 address"),
        ("tcp://a..b:80", "not a host name"),
        ("tcp://user@host:80", "'@'"),
        ("tcp://b\u{fc}cher.example:80", "xn--"),
        ("tcp://host:80/path", "0 to 65535"),
        ("unix://server", "unix:///run/server"),
        ("unix://", "unix:///run/server"),
        ("unix://@", "needs a name"),
        ("unix:///run/", "directory"),
        ("unix:///a\0b", "zero byte"),
    ] {
        assert!(why(text).contains(hint), "{text:?}: {}", why(text));
    }
    assert!(why(&format!("unix:///{}", "x".repeat(107))).contains("at most 107"));
    assert!(why(&format!("tcp://{}:1", "x".repeat(64))).contains("not a host name"));
}

#[test]
fn memory_is_for_simulated_worlds_and_nothing_else_is() {
    let check = |text: &str, simulated| text.parse::<Address>().unwrap().check(simulated);
    assert!(check("memory://x", true).is_ok() && check("tcp://:1", false).is_ok());
    let error = check("memory://x", false).unwrap_err().to_string();
    assert!(error.contains("testing::World only"), "{error}");
    let error = check("tcp://:1", true).unwrap_err().to_string();
    assert!(error.contains("write memory://NAME"), "{error}");
}

proptest! {
    #[test]
    fn no_text_panics(text in ".*") {
        let _ = text.parse::<Address>();
        let _ = format!("tcp://{text}").parse::<Address>();
    }

    #[test]
    fn what_parses_survives_writing(
        scheme in "tcp://|udp://|unix://|unix:///|memory://",
        rest in "[a-zA-Z0-9.:%\\[\\]*@/_-]{0,24}",
        port in 0..70000u32,
    ) {
        for text in [format!("{scheme}{rest}"), format!("{scheme}{rest}:{port}")] {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
            }
        }
    }

    #[test]
    fn socket_addresses_survive_writing(address: SocketAddr) {
        // The flow label is no part of the written form.
        let address = match address {
            SocketAddr::V6(mut v6) => { v6.set_flowinfo(0); v6.into() }
            v4 => v4,
        };
        let written = Address::from(address).to_string();
        prop_assert_eq!(written.parse::<Address>().unwrap(), Address::from(address));
    }
}
