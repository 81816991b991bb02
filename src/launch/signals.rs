//! Signals: SIGTERM and SIGINT end an engine.
//!
//! Above: engines that own their process. Below: signal-hook's iterator on a thread of its own.
//! Absent: other signals.

use std::sync::{Arc, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Engine;
use crate::error::{Error, Result};
use crate::shard::mail::{CoreHandle, Mail, post_patiently};

/// The first signal shuts `engine` down in order, the next one at once.
pub(super) fn watch(engine: &Engine) -> Result<()> {
    let failed = |source| Error::Engine { what: "watching for signals".into(), source };
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    let cores: Vec<Arc<CoreHandle>> =
        engine.cores.iter().map(|core| Arc::clone(&core.handle)).collect();
    let copies = Arc::clone(&engine.listeners);
    let watching = move || {
        let mut at_once = false;
        for signal in signals.forever() {
            if cores.iter().all(|core| core.has_ended()) {
                // The engine is over, the process is not: the signal means again what it always
                // meant.
                if let Err(error) = signal_hook::low_level::emulate_default_handler(signal) {
                    tracing::warn!(signal, %error, "a signal could not be handled");
                }
                continue;
            }
            tracing::info!(signal, at_once, "shutting down");
            copies.lock().unwrap_or_else(PoisonError::into_inner).clear();
            for core in &cores {
                post_patiently(core.unit, Mail::Shutdown { at_once });
            }
            at_once = true;
        }
    };
    let thread = std::thread::Builder::new().name("postring-signals".into());
    thread.spawn(watching).map_err(failed)?;
    Ok(())
}
