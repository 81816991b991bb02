//! An agent: does what a coordinator says, one after the other, and tells what came out.
//!
//! Above: `conduct`. Below: `wire`, `order`, `findings`; the run itself is `conduct`'s. Absent: any
//! wish of its own. Bound: one coordinator at a time, others are told so; each waits at most
//! `ORDER_MAX` and `START_MAX` for the next word, and a run whose coordinator is gone ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use postring::{Carrier, LengthPrefixed};

use super::findings::Findings;
use super::order::Order;
use super::wire::{self, Event, Heard, PROTOCOL, Said, Wire};
use crate::arguments::AgentArguments;
use crate::environment::Environment;
use crate::measurement::Measurement;
use crate::plan::{self, Plan};
use crate::quantity::{cores_shown, line_shown};
use crate::{command, conduct};

/// From one word of a coordinator to the next, before the order.
const ORDER_MAX: Duration = Duration::from_secs(15);
/// From being ready to the start: other agents still connect.
const START_MAX: Duration = Duration::from_secs(60);
/// Time between two looks at whether the run is over.
const TICK: Duration = Duration::from_millis(20);
/// How long a coordinator waits for the one before it to leave.
const LEAVING_MAX: Duration = Duration::from_secs(2);
/// The run may not begin later than this after the coordinator's word.
const START_AFTER_MAX: Duration = Duration::from_secs(60);

/// `loadgen agent`: waits for coordinators until SIGINT or SIGTERM.
///
/// # Errors
/// If it cannot listen, or may not use its CPUs.
pub(crate) fn serve(arguments: &AgentArguments) -> Result<()> {
    let asked = arguments.cores.as_ref().map(|list| list.0.clone());
    let allowed = Environment::read().cpus_allowed;
    let cores: Arc<[usize]> = plan::generator_cores(asked, &allowed, u32::MAX)?.into();
    let engine = wire::engine().signals(true);
    let listener = engine.listen_with(&arguments.address, wire::framer())?;
    let address = listener.local_addresses().into_iter().next().context("it has an address")?;
    let on = cores_shown(&cores);
    conduct::announce(&format!(
        "agent on {address}, generators on CPU {on}; whoever reaches it can have it send load; \
         Ctrl-C ends it"
    ));
    let busy = Arc::new(AtomicBool::new(false));
    let ended = listener.accept_each(|carrier| {
        let (busy, cores) = (busy.clone(), cores.clone());
        std::thread::spawn(move || {
            if !taken(&busy) {
                refuse(carrier);
                return;
            }
            if let Err(error) = session(carrier, &cores) {
                command::complain(&error);
            }
            busy.store(false, Ordering::SeqCst);
        });
        true
    });
    match ended {
        Err(postring::Error::EngineEnded) => Ok(()),
        ended => ended.context("the agent"),
    }
}

/// True if this thread may serve its coordinator now; one that is just leaving is waited for.
fn taken(busy: &AtomicBool) -> bool {
    let until = Instant::now() + LEAVING_MAX;
    while busy.swap(true, Ordering::SeqCst) {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(TICK);
    }
    true
}

fn refuse(carrier: Carrier<LengthPrefixed>) {
    let (ear, _heard) = wire::ear();
    let wire = Wire::new(carrier, 0, &ear);
    // One that went away needs no answer.
    let _ = wire.say(&Said::Refusal("it is busy with another coordinator".to_owned()));
    wire.close();
}

/// Serves one coordinator; what goes wrong is told to both sides.
fn session(carrier: Carrier<LengthPrefixed>, cores: &[usize]) -> Result<()> {
    let (ear, heard) = wire::ear();
    let wire = Wire::new(carrier, 0, &ear);
    let done = converse(&wire, &heard, cores);
    if let Err(error) = &done {
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        // If it is gone, only our own user is left to be told.
        let _ = wire.say(&Said::Refusal(causes.join(": ")));
    }
    wire.close();
    done.context("a coordinator")
}

fn converse(wire: &Wire, heard: &Receiver<Heard>, cores: &[usize]) -> Result<()> {
    let Said::Hello { protocol, .. } = next(heard, ORDER_MAX)? else {
        bail!("it did not begin with its version")
    };
    let generators = cores.len() as u32;
    let version = wire::version();
    wire.say(&Said::Welcome { protocol: PROTOCOL, version, generators })?;
    if protocol != PROTOCOL {
        bail!(
            "it speaks protocol {protocol} and not {PROTOCOL}; use the same loadgen on all hosts"
        );
    }
    let Said::Order(order) = next(heard, ORDER_MAX)? else { bail!("it gave no order") };
    let measurement = carry_out(*order, wire, heard, cores)?;
    wire.say(&Said::Findings(Box::new(Findings::of(measurement)?)))
}

fn next(heard: &Receiver<Heard>, patience: Duration) -> Result<Said> {
    match heard.recv_timeout(patience) {
        Ok((_, Event::Said(said))) => Ok(said),
        Ok((_, Event::Lost(why))) => bail!(why),
        Err(_) => bail!("it said nothing for {} s", patience.as_secs()),
    }
}

/// Runs in a thread of its own, while this one listens.
fn carry_out(
    order: Order,
    wire: &Wire,
    heard: &Receiver<Heard>,
    cores: &[usize],
) -> Result<Measurement> {
    let environment = Environment::read();
    let address = order.address.clone();
    let plan = order.plan(cores)?;
    let (stop, gone) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
    let (start, begin) = channel();
    let voice = wire.voice();
    let called_off = stop.clone();
    let ready = move || {
        voice.say(&Said::Ready)?;
        begun(&begin, &called_off)
    };
    let measured = std::thread::scope(|scope| {
        let (plan, address, ending) = (&plan, &address, stop.clone());
        let run = scope.spawn(|| conduct::measure_from(plan, address, ending, true, ready));
        while !run.is_finished() {
            match heard.recv_timeout(TICK) {
                Ok((_, Event::Said(Said::Start { after_us }))) => {
                    let after = Duration::from_micros(after_us).min(START_AFTER_MAX);
                    // A run that has failed meanwhile tells so itself.
                    let _ = start.send(Instant::now() + after);
                }
                Ok((_, Event::Said(Said::Stop))) => stop.store(true, Ordering::Relaxed),
                Ok(_) => {
                    gone.store(true, Ordering::Relaxed);
                    stop.store(true, Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
            }
        }
        run.join()
    });
    if gone.load(Ordering::Relaxed) {
        bail!("it went away or was not understood while its run went on");
    }
    let Ok(observed) = measured else { bail!("the run panicked; this is a bug of loadgen") };
    let observed = observed.map_err(|error| reworded(&plan, error))?;
    Ok(Measurement::new(plan, environment, address, observed))
}

/// An agent's user did not type the address.
fn reworded(plan: &Plan, error: anyhow::Error) -> anyhow::Error {
    let address = plan.address.clone().unwrap_or_default();
    error.context(format!("cannot measure {}", line_shown(&address)))
}

/// Waits for the moment of the start.
fn begun(begin: &Receiver<Instant>, stop: &AtomicBool) -> Result<Instant> {
    let until = Instant::now() + START_MAX;
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        if let Ok(start) = begin.recv_timeout(TICK) {
            return Ok(start);
        }
    }
    bail!("the run was called off before it began")
}
