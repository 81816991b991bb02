//! Where a run took place: kernel, CPU, clock, commit; and what its CPUs did meanwhile.
//!
//! Above: `conduct` reads it, reports print it. Below: /proc and /sys. Absent: host names and
//! addresses: a report can be shown to strangers. Off Linux most of it is unknown, never wrong.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::quantity;

/// The manifest of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Environment {
    /// Version of loadgen.
    pub(crate) version: &'static str,
    /// Commit it was built from, with `-dirty` if files had changed.
    pub(crate) commit: Option<&'static str>,
    /// When the run began.
    #[serde(skip)]
    pub(crate) started: SystemTime,
    /// The same: UTC, RFC 3339.
    pub(crate) started_at: String,
    /// Kernel release.
    pub(crate) kernel: Option<String>,
    /// CPU model.
    pub(crate) cpu: Option<String>,
    /// True inside a virtual machine, as far as the CPU tells.
    pub(crate) virtual_machine: Option<bool>,
    /// CPUs this process may use.
    pub(crate) cpus_allowed: Vec<usize>,
    /// The kernel's clock source.
    pub(crate) clock: Option<String>,
    /// Frequency governor of CPU 0.
    pub(crate) governor: Option<String>,
    /// Arguments as typed, without the program's name.
    pub(crate) arguments: Vec<String>,
}

impl Environment {
    /// Reads it.
    pub(crate) fn read() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok();
        let cpuinfo = cpuinfo.as_deref();
        let started = SystemTime::now();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("LOADGEN_COMMIT"),
            started,
            started_at: utc(started),
            kernel: line("/proc/sys/kernel/osrelease"),
            cpu: cpuinfo.and_then(|text| field(text, "model name")).map(ToOwned::to_owned),
            virtual_machine: cpuinfo
                .and_then(|text| field(text, "flags"))
                .map(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            cpus_allowed: cpus_allowed(),
            clock: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            arguments: std::env::args().skip(1).collect(),
        }
    }
}

/// CPUs this process may use, rising; never empty.
fn cpus_allowed() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let listed = field(&status, "Cpus_allowed_list").and_then(|list| quantity::cores(list).ok());
    listed.unwrap_or_else(|| {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        (0..count).collect()
    })
}

/// What one CPU has done since boot, in clock ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CpuTicks {
    /// At work: user, system, interrupts.
    busy: u64,
    /// Taken by the hypervisor.
    steal: u64,
    /// All of it.
    total: u64,
}

/// The ticks of all CPUs at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct CpuSnapshot(Vec<(usize, CpuTicks)>);

impl CpuSnapshot {
    /// Reads it; empty where there is no /proc/stat.
    pub(crate) fn read() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// Share of the time between `before` and `self` that `cores` were at work, on average.
    pub(crate) fn busy_share(&self, before: &Self, cores: &[usize]) -> Option<f64> {
        let sums = cores.iter().map(|core| self.since(before, *core));
        let (busy, total) =
            sums.flatten().fold((0, 0), |sum, ticks| (sum.0 + ticks.busy, sum.1 + ticks.total));
        (total > 0).then(|| busy as f64 / total as f64)
    }

    /// Largest share of the time between `before` and `self` that one of `cores` was taken away.
    pub(crate) fn steal_share(&self, before: &Self, cores: &[usize]) -> Option<f64> {
        let shares = cores.iter().filter_map(|core| {
            let ticks = self.since(before, *core)?;
            (ticks.total > 0).then(|| ticks.steal as f64 / ticks.total as f64)
        });
        shares.max_by(f64::total_cmp)
    }

    fn since(&self, before: &Self, core: usize) -> Option<CpuTicks> {
        let (now, then) = (self.of(core)?, before.of(core)?);
        Some(CpuTicks {
            busy: now.busy.saturating_sub(then.busy),
            steal: now.steal.saturating_sub(then.steal),
            total: now.total.saturating_sub(then.total),
        })
    }

    fn of(&self, core: usize) -> Option<CpuTicks> {
        self.0.iter().find(|(cpu, _)| *cpu == core).map(|(_, ticks)| *ticks)
    }

    /// Lines such as `cpu0 user nice system idle iowait irq softirq steal guest guest_nice`.
    fn parse(stat: &str) -> Self {
        let cpu = |line: &str| {
            let mut words = line.strip_prefix("cpu")?.split_ascii_whitespace();
            let core = words.next()?.parse().ok()?;
            let ticks: Vec<u64> = words.map_while(|word| word.parse().ok()).take(8).collect();
            let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks.try_into().ok()?;
            let busy = user + nice + system + irq + softirq;
            let ticks = CpuTicks { busy, steal, total: busy + idle + iowait + steal };
            Some((core, ticks))
        };
        Self(stat.lines().filter(|line| !line.starts_with("cpu ")).filter_map(cpu).collect())
    }
}

/// The CPU this thread is on; `None` where that cannot be asked.
pub(crate) fn current_cpu() -> Option<usize> {
    #[cfg(target_os = "linux")]
    return Some(rustix::thread::sched_getcpu());
    #[cfg(not(target_os = "linux"))]
    None
}

/// The number of this thread in /proc; `None` where threads have none.
pub(crate) fn thread_number() -> Option<u32> {
    #[cfg(target_os = "linux")]
    return u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).ok();
    #[cfg(not(target_os = "linux"))]
    None
}

/// How long this thread has been ready to run while others had its CPU, in nanoseconds since it
/// began; `None` where that cannot be asked.
pub(crate) fn waited_for_cpu_ns() -> Option<u64> {
    // "run_ns wait_ns slices"
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Keeps the calling thread on `cores`, away from the generators. A failure only costs
/// precision, so it is not reported.
pub(crate) fn stay_on(cores: &[usize]) {
    #[cfg(target_os = "linux")]
    if !cores.is_empty() {
        let mut set = rustix::thread::CpuSet::new();
        cores.iter().filter(|core| **core < 1024).for_each(|core| set.set(*core));
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = cores;
}

fn line(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|line| !line.is_empty())
}

/// The first value of `name : value` lines.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

/// UTC in RFC 3339, by the days-from-civil rule of the Gregorian calendar.
fn utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (since / 86_400, since % 86_400);
    // Years begin in March here, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The congestion control of this host's connections, unless they choose another.
pub(crate) fn congestion_control() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").ok()?;
    Some(name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_civil() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(at(4_102_444_800), "2100-01-01T00:00:00Z");
    }

    #[test]
    fn shares_of_cpus_are_differences_of_ticks() {
        let before = CpuSnapshot::parse("cpu  1 1\ncpu0 10 0 10 100 0 0 0 0 0 0\nintr 5\n");
        let after = "cpu  9 9\ncpu0 30 0 20 150 0 5 5 10 0 0\ncpu1 1 1 1 1 1 1 1 1\n";
        let after = CpuSnapshot::parse(after);
        assert_eq!(after.busy_share(&before, &[0]), Some(0.4));
        assert_eq!(after.steal_share(&before, &[0]), Some(0.1));
        assert_eq!(after.busy_share(&before, &[1]), None, "unknown before");
        assert_eq!(after.steal_share(&before, &[7]), None);
        assert!(CpuSnapshot::parse("cpu0 1 2\ngarbage\n").0.is_empty());
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 17\nmodel name\t: A CPU @ 2 GHz\nflags : a hypervisor b\n";
        assert_eq!(field(text, "model name"), Some("A CPU @ 2 GHz"));
        assert_eq!(field(text, "name"), None);
    }

    #[test]
    fn this_process_may_use_a_cpu_and_is_on_one() {
        let environment = Environment::read();
        assert!(!environment.cpus_allowed.is_empty());
        if let Some(cpu) = current_cpu() {
            assert!(environment.cpus_allowed.contains(&cpu));
        }
    }
}
