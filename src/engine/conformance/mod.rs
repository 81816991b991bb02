//! The conformance suite of the drivers' seam: laws that hold for every driver.
//!
//! Above: `cargo test`. Below: `bench` runs a law on a `Subject`, `ledger` checks every single
//! completion. A new driver becomes a subject: a few lines, see `script` and `kernel`.
//! Absent: what only one driver does (its own tests), speed.
//! Bounds: every wait ends; a law takes at most a few seconds on any driver.

mod accept;
mod bench;
mod close;
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
mod datagrams;
mod faults;
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
mod kernel;
mod ledger;
mod receive;
mod script;
mod send;
mod soak;
mod waiting;

use std::time::Duration;

use self::bench::Bench;
use super::operation::{Completion, Data, Operation};
use super::plan::{BufferPlan, Patience};
use super::socket::Socket;
use crate::address::SocketAddress;

/// The seam as a trait, so that the laws are written once.
trait Driving {
    fn submit(&mut self, operation: Operation);
    fn turn(&mut self, patience: Patience) -> std::io::Result<()>;
    fn next(&mut self) -> Option<Completion>;
    fn bytes(&self, data: &Data) -> &[u8];
    fn release(&mut self, data: Data);
}

/// Makes a driver with the seam's methods of its own a `Driving`.
macro_rules! driving {
    ($driver:ty) => {
        impl $crate::engine::conformance::Driving for $driver {
            fn submit(&mut self, operation: $crate::engine::operation::Operation) {
                Self::submit(self, operation);
            }
            fn turn(&mut self, patience: $crate::engine::plan::Patience) -> std::io::Result<()> {
                Self::turn(self, patience)
            }
            fn next(&mut self) -> Option<$crate::engine::operation::Completion> {
                Self::next(self)
            }
            fn bytes(&self, data: &$crate::engine::operation::Data) -> &[u8] {
                Self::bytes(self, data)
            }
            fn release(&mut self, data: $crate::engine::operation::Data) {
                Self::release(self, data);
            }
        }
    };
}
use driving;

/// A driver under test together with the far ends of its connections.
trait Subject: Sized {
    type Driver: Driving;
    type Peer: Peer;
    type Door: Door<Peer = Self::Peer>;

    /// A sleeping turn takes real time.
    const REAL_TIME: bool;
    /// So many turns of 10 ms without a completion mean that nothing will happen any more.
    const IDLE_TURNS_MAX: usize;
    /// A peer can reset a connection at any time.
    const RESETS: bool;
    /// More bytes than a connection holds while nobody reads.
    const BULK: usize;
    /// Error numbers of a connect that nobody takes.
    const REFUSALS: &'static [i32];

    fn name() -> String;
    /// The seeds each law runs with.
    fn seeds() -> std::ops::Range<u64>;
    /// The subject, or why it cannot run here.
    fn new(seed: u64, plan: &BufferPlan) -> Result<Self, String>;
    fn driver(&mut self) -> &mut Self::Driver;
    /// A connection: one socket for the driver, the other end by hand.
    fn pair(&mut self) -> (Socket, Self::Peer);
    /// A listening socket for the driver, and the way to connect to it by hand.
    fn listening(&mut self) -> (Socket, Self::Door);
    /// A socket for the driver to connect with, and a door where it is accepted by hand.
    fn far_door(&mut self) -> (Socket, Self::Door);
    /// An address where nobody listens and a socket to try it with.
    fn nobody(&mut self) -> (SocketAddress, Socket);
    /// Rings the driver's bell, from any thread.
    fn bell(&self) -> Box<dyn Fn() + Send>;
    /// The time so far, as turns see it.
    fn waited(&self) -> Duration;
}

/// A listening address with both its sides' manual work.
trait Door {
    type Peer: Peer;
    fn address(&self) -> SocketAddress;
    fn connect(&mut self) -> Self::Peer;
    /// Does not wait.
    fn accept(&mut self) -> Option<Self::Peer>;
}

/// The far end of a connection, by hand. Nothing here waits. Dropping it closes it.
trait Peer {
    /// How many bytes were taken; 0 if none fit or the connection failed.
    fn write(&mut self, bytes: &[u8]) -> usize;
    /// Reads at most `max` bytes to the end of `into`.
    fn read(&mut self, into: &mut Vec<u8>, max: usize) -> PeerRead;
    fn end(&mut self);
    fn reset(self);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PeerRead {
    Bytes,
    Nothing,
    End,
    Failed,
}

/// Buffers enough for every law.
const ROOMY: BufferPlan = BufferPlan {
    buffer_len: 1024,
    posted: 64,
    pool_bytes_max: 1 << 20,
    datagram_pool_bytes: 4 << 20,
    credit: 4096,
};
/// As few buffers as `Limits` allows: fewer than the receives of a flood ask for.
const SCARCE: BufferPlan = BufferPlan {
    buffer_len: 512,
    posted: 16,
    pool_bytes_max: 16 * 1024,
    datagram_pool_bytes: 4 << 20,
    credit: 2048,
};

/// Runs `law` with every seed of the subject; says the seed when one fails.
fn run<S: Subject>(name: &str, plan: &BufferPlan, law: fn(&mut Bench<S>)) {
    struct Report<'a>(String, &'a str, u64);
    impl Drop for Report<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let Self(name, law, seed) = &*self;
                println!("{name} broke the law {law} with POSTRING_SEEDS={seed}..{}", *seed + 1);
            }
        }
    }
    for seed in chosen_seeds().unwrap_or_else(S::seeds) {
        let _report = Report(S::name(), name, seed);
        match Bench::<S>::new(seed, plan) {
            Ok(mut bench) => {
                law(&mut bench);
                bench.finish();
            }
            Err(reason) => return println!("SKIP: {name} on {}: {reason}", S::name()),
        }
    }
}

/// Other seeds than usual, as `POSTRING_SEEDS=17..18`: to repeat a failure or to dig deeper.
fn chosen_seeds() -> Option<std::ops::Range<u64>> {
    let text = std::env::var("POSTRING_SEEDS").ok()?;
    let (start, end) = text.split_once("..").expect("POSTRING_SEEDS is written 17..18");
    let number = |text: &str| text.parse().expect("POSTRING_SEEDS is written 17..18");
    Some(number(start)..number(end))
}

/// One test per law for the subject `Tested` of the module around.
macro_rules! laws {
    ($($theme:ident { $($law:ident),+ $(,)? } with $plan:ident;)+) => {
        $(mod $theme {
            $(#[test]
            fn $law() {
                let law = $crate::engine::conformance::$theme::$law::<super::Tested>;
                let plan = &$crate::engine::conformance::$plan;
                $crate::engine::conformance::run::<super::Tested>(stringify!($law), plan, law);
            })+
        })+
    };
}

/// The whole suite for a subject.
macro_rules! suite {
    ($name:ident is $module:ident::$subject:ident) => {
        mod $name {
            type Tested = $crate::engine::conformance::$module::$subject;
            laws! {
                receive {
                    bytes_arrive_whole_and_in_order_with_any_credit,
                    nothing_is_received_until_asked_again,
                    a_stop_amid_data_loses_no_byte,
                    a_stop_without_a_receive_does_nothing,
                    the_end_comes_after_all_bytes,
                    a_reset_by_the_peer_is_a_failure,
                    an_exact_receive_fills_its_buffer,
                    an_exact_receive_takes_what_is_there_unless_whole,
                    an_exact_receive_ends_short_when_the_peer_ends,
                    a_stopped_exact_receive_answers_once_and_loses_no_byte,
                } with ROOMY;
                send {
                    segments_arrive_whole_and_in_order,
                    both_directions_move_at_once,
                    a_peer_that_does_not_read_makes_a_send_wait,
                    a_paced_send_says_at_once_what_has_left,
                    an_end_follows_what_was_sent,
                    sending_to_a_peer_that_is_gone_fails,
                } with ROOMY;
                close {
                    closing_answers_everything_and_comes_last,
                    closing_an_idle_socket_answers_closed,
                    closing_amid_data_answers_everything,
                    closing_twice_is_answered_once,
                    a_close_with_reset_fails_the_peer,
                    a_close_without_reset_ends_the_peer_after_all_bytes,
                    a_slot_used_again_hears_nothing_of_its_past,
                } with ROOMY;
                accept {
                    many_connections_are_accepted_once_each,
                    a_stopped_accept_takes_what_is_queued,
                    closing_a_listener_ends_its_accept,
                    a_connect_that_is_accepted_succeeds,
                    a_connect_that_nobody_takes_fails,
                    closing_answers_a_connect,
                } with ROOMY;
                waiting {
                    an_impatient_turn_does_not_wait,
                    a_patient_turn_ends_in_time,
                    a_bell_ends_a_sleeping_turn,
                    a_bell_rung_before_the_turn_is_heard,
                    a_bell_is_heard_once,
                    data_ends_a_sleeping_turn,
                    data_for_any_of_many_receives_ends_a_sleep,
                } with ROOMY;
                faults {
                    few_buffers_serve_many_receives,
                    a_flood_after_the_receives_loses_nothing,
                    starved_receives_can_be_stopped_and_closed,
                } with SCARCE;
                soak { anything_at_any_time_keeps_the_streams_whole } with ROOMY;
            }
        }
    };
}

suite!(on_script is script::Script);
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
suite!(on_epoll_with_tcp is kernel::EpollTcp);
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
suite!(on_epoll_with_unix is kernel::EpollUnix);
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
suite!(on_uring_with_tcp is kernel::UringTcp);
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
suite!(on_uring_with_unix is kernel::UringUnix);
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
suite!(on_a_tight_uring is kernel::TightUringTcp);

/// The laws of datagrams, and those that hold for this kind of subject alone.
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
macro_rules! datagram_suite {
    ($name:ident is $module:ident::$subject:ident $(and $more:ident)*) => {
        mod $name {
            type Tested = $crate::engine::conformance::$module::$subject;
            laws! {
                datagrams {
                    a_train_comes_whole_in_order_and_with_its_segment,
                    datagrams_of_any_lengths_stay_apart,
                    a_datagram_of_no_bytes_is_one,
                    an_answer_goes_to_whom_it_names,
                    a_stop_ends_once_and_loses_no_datagram,
                    closing_amid_trains_answers_everything,
                    a_close_amid_trains_claims_no_more_than_has_left,
                    a_closed_port_is_said_once,
                    what_one_of_many_peers_says_ends_nothing,
                    one_that_is_too_long_fails_alone,
                    more_datagrams_than_buffers_are_all_received,
                    $($more,)*
                } with ROOMY;
            }
        }
    };
}

/// The same, for a driver of the kernel.
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
macro_rules! kernel_datagram_suite {
    ($name:ident is $subject:ident) => {
        datagram_suite!($name is kernel::$subject
            and a_refused_train_leaves_in_single_datagrams
            and a_peer_that_cannot_be_sent_to_leaves_trains_to_others);
    };
}

#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
datagram_suite!(on_script_with_udp is script::ScriptUdp);
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
kernel_datagram_suite!(on_epoll_with_udp is EpollUdp);
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
kernel_datagram_suite!(on_uring_with_udp is UringUdp);
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
kernel_datagram_suite!(on_a_tight_uring_with_udp is TightUringUdp);
