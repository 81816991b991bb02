//! Items 5 to 7: Carriers without a connection, and those that get another one (draft §2.1).

use std::net::TcpListener;

use postring::{CarrierState, CloseReason, Error, Message, Unframed};

use crate::pairs::*;
use crate::support::*;

#[test]
fn item_005_a_dormant_carrier_says_so_and_can_be_reactivated() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let (carrier, listener) = to_foreign(&engine);
        carrier.activate().wait().unwrap();
        reset(accept(&listener));
        let state = || carrier.state().wait().unwrap();
        until("it is dormant", || state() == CarrierState::Dormant);
        assert_eq!(engine.metrics().total().open_connections, 1, "its slot stays");
        assert!(listener.accept().is_err(), "without need it does not connect");
        carrier.activate().wait().unwrap();
        assert_eq!(state(), CarrierState::Active);
        let mut peer = accept(&listener);
        carrier.send("here again").wait().unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"here again");
        end(engine);
    });
}

/// Nobody can connect to a client again, and a stream without frames has no place
/// where it could be taken up: there a lost connection is the end.
#[test]
fn item_006_what_lacks_the_state_to_connect_again_ends_with_its_connection() {
    on_both(30, |driver| {
        let listener = one(driver).listen_with("tcp://127.0.0.1:0", frames()).unwrap();
        let peer = connect_to(&place(listener.engine().unwrap()));
        let accepted = listener.accept().wait().unwrap();
        reset(peer);
        let error = accepted.receive().wait().unwrap_err();
        assert!(matches!(error, Error::Closed(CloseReason::Reset)), "{error:?}");
        let closed = CarrierState::Closed(CloseReason::Reset);
        until("it is closed", || accepted.state().wait().unwrap() == closed);

        let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", foreign.local_addr().unwrap());
        let carrier = postring::initiate_with(&address, Unframed);
        carrier.activate().wait().unwrap();
        reset(accept(&foreign));
        let error = carrier.receive().wait().unwrap_err();
        assert!(matches!(error, Error::Closed(CloseReason::Reset)), "{error:?}");
        listener.engine().unwrap().shutdown();
    });
}

#[test]
fn item_007_pending_messages_survive_a_killed_connection() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let (carrier, listener) = to_foreign(&engine);
        carrier.activate().wait().unwrap();
        let peer = accept(&listener);
        fill(&carrier);
        for pending in ["pending", "and this"] {
            carrier.send(Message::from(pending).niceness(98)).wait().unwrap();
        }
        reset(peer);
        let mut peer = accept(&listener);
        assert_eq!(beside_bulk(&mut peer, 2), ["pending", "and this"]);
        end(engine);
    });
}
