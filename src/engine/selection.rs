//! Selection: which driver this process uses, and why not a better one.
//!
//! Above: the start of an engine. Below: both drivers' set-up. io_uring is tried once per process;
//! a refusal is reported loudly with its reason and the remedy, never worked around silently.
//! Absent: anything after the start.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::bell::EventBell;
use super::driver::{Driver, DriverChoice};
use super::epoll::EpollDriver;
use super::metrics::CoreMetrics;
use super::operation::{Completion, Operation, ReceiveEnd, Token};
use super::plan::{BufferPlan, Patience};
use super::socket::Socket;
use crate::error::{Error, Result};
use crate::kernel::{RingOptions, UringDriver};

/// Entries of a ring's queues. Completions are sized for bursts, not for all connections: what
/// does not fit waits in the kernel and is counted as an overflow.
const SUBMISSIONS: u32 = 1024;
const COMPLETIONS: u32 = 8192;

/// The driver that was chosen.
#[derive(Debug, Clone)]
pub(crate) struct Selected {
    is_uring: bool,
    /// Why it is not the better one, with the remedy.
    pub(crate) reason: Option<String>,
}

impl Selected {
    pub(crate) fn name(&self) -> &'static str {
        if self.is_uring { "io_uring" } else { "epoll" }
    }

    /// Makes one core's driver, on its thread.
    pub(crate) fn set_up(
        &self,
        plan: &BufferPlan,
        spins: bool,
        metrics: &Arc<CoreMetrics>,
    ) -> io::Result<(Driver, EventBell)> {
        let metrics = Arc::clone(metrics);
        if !self.is_uring {
            let driver = EpollDriver::new(plan, metrics).map_err(explained)?;
            let bell = driver.bell();
            return Ok((Driver::Epoll(Box::new(driver)), bell));
        }
        let options = RingOptions { submissions: SUBMISSIONS, completions: COMPLETIONS, spins };
        let driver = UringDriver::new(plan, &options, metrics).map_err(explained)?;
        let bell = driver.bell();
        Ok((Driver::Uring(Box::new(driver)), bell))
    }
}

/// Chooses by the environment, then by the program, then by what the kernel allows.
pub(crate) fn select(choice: DriverChoice) -> Result<Selected> {
    let choice = match std::env::var_os("POSTRING_DRIVER") {
        Some(name) if choice == DriverChoice::Auto => named(&name)?,
        _ => choice,
    };
    let selected = match choice {
        DriverChoice::Epoll => {
            Selected { is_uring: false, reason: Some("epoll was asked for".into()) }
        }
        DriverChoice::Uring => match probe() {
            Ok(()) => Selected { is_uring: true, reason: None },
            Err(why) => return Err(Error::Unsupported(format!("io_uring: {why}"))),
        },
        DriverChoice::Auto => match probe() {
            Ok(()) => Selected { is_uring: true, reason: None },
            Err(why) => Selected { is_uring: false, reason: Some(why.clone()) },
        },
    };
    report(&selected, choice);
    Ok(selected)
}

/// The choice that the environment names.
fn named(name: &OsStr) -> Result<DriverChoice> {
    match name.to_ascii_lowercase().to_str() {
        Some("uring" | "io_uring") => Ok(DriverChoice::Uring),
        Some("epoll") => Ok(DriverChoice::Epoll),
        Some("" | "auto") => Ok(DriverChoice::Auto),
        _ => {
            let why = format!("POSTRING_DRIVER={name:?}; use uring, epoll or auto");
            Err(Error::Configuration(why))
        }
    }
}

/// Says which driver it is, once per process and choice.
fn report(selected: &Selected, choice: DriverChoice) {
    static REPORTED: OnceLock<bool> = OnceLock::new();
    let driver = selected.name();
    let first = REPORTED.set(selected.is_uring).is_ok();
    let reason = selected.reason.as_deref().unwrap_or_default();
    match (selected.is_uring, choice) {
        _ if !first && REPORTED.get() == Some(&selected.is_uring) => {}
        (false, DriverChoice::Auto) => {
            tracing::warn!(driver, reason, "io_uring is refused; using the slower driver");
        }
        _ => tracing::info!(driver, reason, "driver"),
    }
}

/// Tries a small ring with everything a driver needs; the answer holds for the process.
fn probe() -> std::result::Result<(), &'static String> {
    static ANSWER: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let answer = ANSWER.get_or_init(|| {
        let plan = BufferPlan {
            buffer_len: 4096,
            posted: 16,
            pool_bytes_max: 1 << 20,
            datagram_pool_bytes: 4 << 20,
            credit: 4096,
        };
        let options = RingOptions { submissions: 8, completions: 64, spins: false };
        let tried = UringDriver::new(&plan, &options, Arc::default()).and_then(try_receive);
        tried.map_err(|error| remedy(&error))
    });
    answer.as_ref().copied()
}

/// A kernel before 6.0 sets up all that a driver needs and then refuses its receives.
fn try_receive(mut driver: UringDriver) -> io::Result<()> {
    let token = Token { slot: 0, generation: 1 };
    let (near, mut far) = std::os::unix::net::UnixStream::pair()?;
    far.write_all(b"?")?;
    let socket = Socket::from(OwnedFd::from(near));
    driver.submit(Operation::Attach { token, socket });
    driver.submit(Operation::Receive { token, credit: 1 });
    for _ in 0..PROBE_TURNS_MAX {
        driver.turn(Patience::Sleep(PROBE_TURN))?;
        while let Some(completion) = driver.next() {
            if let Some(verdict) = judge(&completion) {
                return verdict;
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "a byte was sent and never received"))
}

const PROBE_TURNS_MAX: u32 = 20;
const PROBE_TURN: Duration = Duration::from_millis(50);

/// What the answer to the probe's receive says, if it is one.
fn judge(completion: &Completion) -> Option<io::Result<()>> {
    match completion {
        Completion::Received { .. } => Some(Ok(())),
        Completion::ReceiveEnded { end: ReceiveEnd::Failed(errno), .. } => Some(Err(errno.to_io())),
        Completion::ReceiveEnded { .. } => Some(Err(io::ErrorKind::UnexpectedEof.into())),
        _ => None,
    }
}

/// What a refusal means and what to do about it.
fn remedy(error: &io::Error) -> String {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let disabled = disabled.ok().and_then(|text| text.trim().parse::<u8>().ok()).unwrap_or(0);
    let cause = match error.raw_os_error() {
        Some(libc::EPERM) if disabled > 0 => {
            "the sysctl kernel.io_uring_disabled forbids it; set it to 0"
        }
        Some(libc::EPERM | libc::EACCES) => {
            "a seccomp filter or security module forbids it; allow io_uring_setup, \
             io_uring_enter and io_uring_register in the container's profile"
        }
        Some(libc::ENOSYS) => {
            "this kernel has no io_uring, or a seccomp filter hides it; use Linux 6.1 or later, \
             or allow io_uring_setup, io_uring_enter and io_uring_register"
        }
        Some(libc::ENOMEM) => {
            "the limit on locked memory is too small; raise RLIMIT_MEMLOCK (ulimit -l)"
        }
        Some(libc::EINVAL) => {
            "this kernel lacks what the driver needs (provided buffer rings, multishot receive; \
             the latter came with Linux 6.0); use Linux 6.1 or later"
        }
        Some(libc::EMFILE) => {
            "this process is out of file descriptors; raise the limit (ulimit -n)"
        }
        Some(libc::ENFILE) => {
            "the host is out of file descriptors; raise the limit (sysctl fs.file-max)"
        }
        _ => "an unexpected refusal",
    };
    format!("{error}: {cause}")
}

fn explained(error: io::Error) -> io::Error {
    let sentence = remedy(&error);
    io::Error::new(error.kind(), sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::errno::Errno;
    use crate::engine::operation::Data;

    const TOKEN: Token = Token { slot: 0, generation: 1 };

    #[test]
    fn a_kernel_without_multishot_receive_is_refused_with_the_reason() {
        // What a kernel before 6.0 answers.
        let end = ReceiveEnd::Failed(Errno(libc::EINVAL));
        let refused = judge(&Completion::ReceiveEnded { token: TOKEN, end }).unwrap().unwrap_err();
        let sentence = remedy(&refused);
        assert!(sentence.contains("multishot receive") && sentence.contains("6.0"), "{sentence}");
        let data = Data { buffer: 0, start: 0, len: 1, leasable: true };
        assert!(judge(&Completion::Received { token: TOKEN, data }).unwrap().is_ok());
        assert!(judge(&Completion::Closed { token: TOKEN }).is_none(), "no answer yet");
    }

    #[test]
    fn a_process_out_of_files_learns_which_limit_to_raise() {
        let said = |errno| explained(io::Error::from_raw_os_error(errno)).to_string();
        assert!(said(libc::EMFILE).contains("ulimit -n"), "{}", said(libc::EMFILE));
        assert!(said(libc::ENFILE).contains("fs.file-max"), "{}", said(libc::ENFILE));
    }

    #[test]
    fn the_environment_names_a_driver_or_is_refused() {
        use std::os::unix::ffi::OsStrExt;
        for (name, choice) in [
            ("URING", DriverChoice::Uring),
            ("epoll", DriverChoice::Epoll),
            ("", DriverChoice::Auto),
        ] {
            assert_eq!(named(OsStr::new(name)).unwrap(), choice);
        }
        for (bad, shown) in [(&b"garbage"[..], "garbage"), (b"epoll\xff", r"epoll\xFF")] {
            let error = named(OsStr::from_bytes(bad)).unwrap_err().to_string();
            assert!(error.contains(shown) && error.contains("use uring, epoll"), "{error}");
        }
    }

    #[test]
    fn the_probe_receives_a_byte() {
        match probe() {
            Ok(()) => {}
            // Nothing else than a refusal with a cause and a remedy.
            Err(reason) => {
                assert!(!reason.contains("never received"), "{reason}");
                println!("SKIP: {reason}");
            }
        }
    }
}
