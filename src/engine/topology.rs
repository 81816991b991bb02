//! Which CPUs get a core thread: those the process may use, fewer if it may use only part of
//! their time.
//!
//! Above: the engine's start starts one thread per entry of a `Plan`; `offload` undoes pinning.
//! Below: the scheduler's affinity calls, `/proc/self/cgroup` and `/sys/fs/cgroup`.
//! Absent: NUMA, hyper-threads, interrupts, network cards (`tuning` shows those), and changes
//! of the limits after the start. Control groups mounted elsewhere are not found.
//! Bounds: CPUs 0 to 1023 can be chosen and pinned; one thread per CPU.

use std::path::{Component, Path, PathBuf};
use std::{fs, thread};

/// The core threads to start.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// One entry per core thread, never empty: the CPU to pin it to, or `None` to let the
    /// scheduler choose.
    pub(crate) cpus: Vec<Option<usize>>,
    /// Whether the threads are to be pinned.
    pub(crate) pinned: bool,
    /// Whether a thread may wait by spinning: under a quota that uses up the time of the others.
    pub(crate) may_spin: bool,
    /// How many CPUs' time the control group grants, if it limits that at all.
    pub(crate) quota_cores: Option<f64>,
}

/// Why the chosen CPUs cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChoiceError {
    #[error("no CPU is chosen; name at least one, or choose none to use all allowed")]
    Empty,
    #[error("CPU {cpu} is chosen twice; a CPU gets one core thread")]
    Twice { cpu: usize },
    #[error("CPU {cpu} is not allowed for this process; allowed: {allowed}")]
    NotAllowed { cpu: usize, allowed: String },
    #[error("this system does not say which CPUs are allowed, so none can be chosen")]
    Unknown,
}

/// Plans one thread per CPU.
///
/// Without a `choice` these are all allowed CPUs, pinned; but if the control group's quota grants
/// less time than they have, only as many threads as that time rounded up, not pinned, since
/// other groups' pinned threads would meet on the same first CPUs. A `choice` is kept as it is,
/// in its order and pinned, quota or not. `root` stands before `/proc` and `/sys`; it is `/`
/// except in tests.
pub(crate) fn plan(choice: Option<&[usize]>, root: &Path) -> Result<Plan, ChoiceError> {
    plan_for(affinity::allowed().as_deref(), choice, quota_cores(root))
}

fn plan_for(
    allowed: Option<&[usize]>,
    choice: Option<&[usize]>,
    quota_cores: Option<f64>,
) -> Result<Plan, ChoiceError> {
    if let Some(chosen) = choice {
        check(chosen, allowed.ok_or(ChoiceError::Unknown)?)?;
    }
    let named = choice.or(allowed);
    let available = || thread::available_parallelism().map_or(1, |cpus| cpus.get());
    let threads = named.map_or_else(available, <[usize]>::len).max(1);
    // A quota of at least all CPUs limits nothing.
    let binding = quota_cores.filter(|cores| *cores < threads as f64);
    let cpus = match (named, binding) {
        (Some(cpus), None) => cpus.iter().copied().map(Some).collect(),
        (Some(cpus), Some(_)) if choice.is_some() => cpus.iter().copied().map(Some).collect(),
        (_, Some(cores)) => vec![None; (cores.ceil() as usize).max(1)],
        (None, None) => vec![None; threads],
    };
    let pinned = cpus.iter().all(Option::is_some);
    Ok(Plan { cpus, pinned, may_spin: binding.is_none(), quota_cores })
}

fn check(chosen: &[usize], allowed: &[usize]) -> Result<(), ChoiceError> {
    if chosen.is_empty() {
        return Err(ChoiceError::Empty);
    }
    for (nth, &cpu) in chosen.iter().enumerate() {
        if !allowed.contains(&cpu) {
            return Err(ChoiceError::NotAllowed { cpu, allowed: ranges(allowed) });
        }
        if chosen[..nth].contains(&cpu) {
            return Err(ChoiceError::Twice { cpu });
        }
    }
    Ok(())
}

/// Ascending CPUs as the kernel writes them: `0-3,8`.
fn ranges(cpus: &[usize]) -> String {
    let runs = cpus.chunk_by(|one, next| one + 1 == *next);
    let texts = runs.filter_map(|run| match run {
        [] => None,
        [cpu] => Some(cpu.to_string()),
        [first, .., last] => Some(format!("{first}-{last}")),
    });
    texts.collect::<Vec<_>>().join(",")
}

/// The CPU time granted by the control groups this process is in, in CPUs.
fn quota_cores(root: &Path) -> Option<f64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = root.join("sys/fs/cgroup");
    let quotas = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        if controllers.is_empty() {
            // Version 2, alone or beside version 1.
            let alone = smallest(&mounts, path, quota_v2);
            least(alone, smallest(&mounts.join("unified"), path, quota_v2))
        } else if controllers.split(',').any(|name| name == "cpu") {
            let together = smallest(&mounts.join(controllers), path, quota_v1);
            least(together, smallest(&mounts.join("cpu"), path, quota_v1))
        } else {
            None
        }
    });
    quotas.reduce(f64::min)
}

fn least(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.into_iter().chain(other).reduce(f64::min)
}

/// The smallest quota of a group and all groups above it. In a container the path may be the
/// host's and not exist here; then the group of the container is the root we see.
fn smallest(mount: &Path, path: &str, quota: impl Fn(&Path) -> Option<f64>) -> Option<f64> {
    let named = Path::new(path).components().filter(|part| matches!(part, Component::Normal(_)));
    let group: PathBuf = named.collect();
    group.ancestors().filter_map(|group| quota(&mount.join(group))).reduce(f64::min)
}

/// `cpu.max` holds the quota (or `max`) and the period, both in microseconds.
fn quota_v2(group: &Path) -> Option<f64> {
    let file = group.join("cpu.max");
    let text = fs::read_to_string(&file).ok()?;
    let mut words = text.split_whitespace();
    match (words.next(), words.next()) {
        (Some("max"), _) => None,
        (Some(quota), Some(period)) => ratio(&file, quota, period),
        _ => ratio(&file, &text, ""),
    }
}

/// Two files, in microseconds; a quota of -1 limits nothing.
fn quota_v1(group: &Path) -> Option<f64> {
    let file = group.join("cpu.cfs_quota_us");
    let quota = fs::read_to_string(&file).ok()?;
    if quota.trim() == "-1" {
        return None;
    }
    let period = fs::read_to_string(group.join("cpu.cfs_period_us")).ok()?;
    ratio(&file, quota.trim(), period.trim())
}

fn ratio(file: &Path, quota: &str, period: &str) -> Option<f64> {
    match (quota.parse::<u64>(), period.parse::<u64>()) {
        (Ok(quota @ 1..), Ok(period @ 1..)) => Some(quota as f64 / period as f64),
        _ => {
            let file = file.display();
            tracing::warn!(%file, quota, period, "CPU quota not understood; taken as no quota");
            None
        }
    }
}

/// Binds the calling thread to one CPU; false if the system refuses or has no such CPU.
pub(crate) fn pin(cpu: usize) -> bool {
    affinity::pin(cpu)
}

/// How many CPUs this process may use, pinned as the calling thread may be; at least 1.
pub(crate) fn cpu_count() -> usize {
    let available = || thread::available_parallelism().map_or(1, |cpus| cpus.get());
    affinity::count_at_start().unwrap_or_else(available)
}

/// Lets the calling thread run wherever the process was allowed to when the first plan was made.
/// Threads inherit the binding of the thread that starts them, so helpers call this first.
pub(crate) fn unpin() {
    affinity::unpin();
}

#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
mod affinity {
    use std::sync::OnceLock;

    use core_affinity::CoreId;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// What was allowed before this crate pinned anything.
    static AT_START: OnceLock<CpuSet> = OnceLock::new();

    pub(super) fn allowed() -> Option<Vec<usize>> {
        let found = sched_getaffinity(None);
        let set = found.inspect_err(|error| tracing::warn!(%error, "allowed CPUs unknown")).ok()?;
        let set = AT_START.get_or_init(|| set);
        let cpus: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
        (!cpus.is_empty()).then_some(cpus)
    }

    pub(super) fn pin(cpu: usize) -> bool {
        cpu < CpuSet::MAX_CPU && core_affinity::set_for_current(CoreId { id: cpu })
    }

    pub(super) fn count_at_start() -> Option<usize> {
        AT_START.get().map(|set| set.count() as usize).filter(|count| *count > 0)
    }

    pub(super) fn unpin() {
        if let Some(set) = AT_START.get()
            && let Err(error) = sched_setaffinity(None, set)
        {
            tracing::debug!(%error, "a thread stays bound to the CPU of its starter");
        }
    }
}

#[cfg(not(all(target_os = "linux", not(postring_no_kernel))))]
mod affinity {
    pub(super) fn allowed() -> Option<Vec<usize>> {
        None
    }

    pub(super) fn pin(_cpu: usize) -> bool {
        false
    }

    pub(super) fn count_at_start() -> Option<usize> {
        None
    }

    pub(super) fn unpin() {}
}

#[cfg(test)]
mod tests;
