//! Limits that bound a server: of this process, of the network stack, of its cgroup.
//!
//! Above: `inspect`. Below: `tree`.
//! Absent: no recommended values.
//! Bound: cgroups are looked for below /sys/fs/cgroup, where every current distribution mounts
//! them; `GROUP_LEVELS_MAX` levels of groups.

use serde::{Serialize, Serializer};

use crate::fact::Fact;
use crate::tree::Tree;
use crate::words::{excerpt, join};

/// Levels of nested cgroups that are followed upwards.
const GROUP_LEVELS_MAX: usize = 64;

/// All limits.
#[derive(Debug, Serialize)]
pub(crate) struct Limits {
    /// RLIMIT_NOFILE of this process.
    pub(crate) open_files: Fact<SoftHard>,
    /// RLIMIT_MEMLOCK of this process.
    pub(crate) locked_memory_bytes: Fact<SoftHard>,
    /// The tightest CPU bandwidth limit of this process's cgroup and those above it.
    pub(crate) cgroup_cpu_quota: Fact<Quota>,
    pub(crate) somaxconn: Fact<u64>,
    pub(crate) tcp_max_syn_backlog: Fact<u64>,
    pub(crate) netdev_max_backlog: Fact<u64>,
    pub(crate) netdev_budget: Fact<u64>,
    pub(crate) busy_poll_us: Fact<u64>,
    pub(crate) busy_read_us: Fact<u64>,
    pub(crate) rps_sock_flow_entries: Fact<u64>,
    pub(crate) default_qdisc: Fact<String>,
    pub(crate) congestion_control: Fact<String>,
    pub(crate) congestion_controls_available: Fact<Vec<String>>,
}

/// A limit that a process may raise from `soft` to `hard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct SoftHard {
    pub(crate) soft: Ceiling,
    pub(crate) hard: Ceiling,
}

/// A number or no limit; in JSON the number or `"unlimited"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ceiling {
    /// At most this many.
    At(u64),
    /// No limit.
    Unlimited,
}

impl Serialize for Ceiling {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::At(value) => serializer.serialize_u64(*value),
            Self::Unlimited => serializer.serialize_str("unlimited"),
        }
    }
}

/// CPU time that a cgroup may use.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Quota {
    /// 1 or 2: which kind of cgroup holds the CPU controller.
    pub(crate) cgroup_version: u32,
    /// Time per time, in CPUs; `None` without limit.
    pub(crate) cpus: Option<f64>,
    /// The directory whose limit this is; without limit that of the process's own group.
    pub(crate) group: String,
}

/// Reads all limits.
pub(super) fn read(tree: &Tree) -> Limits {
    let core = |name: &str| tree.number(&format!("/proc/sys/net/core/{name}"));
    let controls = tree.text("/proc/sys/net/ipv4/tcp_available_congestion_control");
    Limits {
        open_files: process_limit(tree, "Max open files"),
        locked_memory_bytes: process_limit(tree, "Max locked memory"),
        cgroup_cpu_quota: quota(tree),
        somaxconn: core("somaxconn"),
        tcp_max_syn_backlog: tree.number("/proc/sys/net/ipv4/tcp_max_syn_backlog"),
        netdev_max_backlog: core("netdev_max_backlog"),
        netdev_budget: core("netdev_budget"),
        busy_poll_us: core("busy_poll"),
        busy_read_us: core("busy_read"),
        rps_sock_flow_entries: core("rps_sock_flow_entries"),
        default_qdisc: tree.text("/proc/sys/net/core/default_qdisc"),
        congestion_control: tree.text("/proc/sys/net/ipv4/tcp_congestion_control"),
        congestion_controls_available: controls
            .map(|text| text.split_whitespace().map(str::to_owned).collect()),
    }
}

/// From a line of /proc/self/limits: `Max open files   1024   524288   files`.
fn process_limit(tree: &Tree, name: &str) -> Fact<SoftHard> {
    tree.parsed("/proc/self/limits", |text| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let line = line.ok_or_else(|| format!("it has no line {name:?}"))?;
        let mut words = line.split_whitespace().map(|word| match word {
            "unlimited" => Some(Ceiling::Unlimited),
            number => number.parse().ok().map(Ceiling::At),
        });
        match (words.next().flatten(), words.next().flatten()) {
            (Some(soft), Some(hard)) => Ok(SoftHard { soft, hard }),
            _ => Err(format!("{} are not two limits", excerpt(line.trim()))),
        }
    })
}

fn quota(tree: &Tree) -> Fact<Quota> {
    tree.text("/proc/self/cgroup").and_then(|groups| {
        let mut second = None;
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            if controllers.split(',').any(|controller| controller == "cpu") {
                return quota_of_version_1(tree, controllers, path);
            }
            if controllers.is_empty() {
                second = Some(path);
            }
        }
        match second {
            Some(path) => quota_of_version_2(tree, path),
            None => Fact::unknown("/proc/self/cgroup: it names no group with a CPU controller"),
        }
    })
}

/// Version 1 mounts the controller by its name or by the names it shares the hierarchy with.
fn quota_of_version_1(tree: &Tree, controllers: &str, path: &str) -> Fact<Quota> {
    let mounts = [format!("/sys/fs/cgroup/{controllers}"), "/sys/fs/cgroup/cpu".to_owned()];
    let mount = mounts.iter().find(|mount| {
        let file = format!("{mount}/cpu.cfs_period_us");
        tree.text(&file).known().is_some()
    });
    let Some(mount) = mount else {
        return Fact::unknown(format!("{}/cpu.cfs_period_us: no such file", mounts[0]));
    };
    tightest(mount, path, 1, |group| {
        let quota = match tree.text(&join(group, "cpu.cfs_quota_us")) {
            Fact::Known(quota) => quota,
            // The group may lie outside this container: then its directory is not here.
            Fact::Unknown { .. } => return Ok(None),
        };
        if quota.starts_with('-') {
            return Ok(None);
        }
        match tree.text(&join(group, "cpu.cfs_period_us")) {
            Fact::Known(period) => ratio(&quota, &period).map(Some),
            Fact::Unknown { unknown } => Err(unknown),
        }
    })
}

/// Version 2 has `cpu.max` in every group but the root, once the CPU controller is on.
fn quota_of_version_2(tree: &Tree, path: &str) -> Fact<Quota> {
    let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let mount = mounts.into_iter().find(|mount| {
        let file = format!("{mount}/cgroup.controllers");
        tree.text(&file).known().is_some()
    });
    let Some(mount) = mount else {
        return Fact::unknown("/sys/fs/cgroup/cgroup.controllers: no such file");
    };
    tightest(mount, path, 2, |group| match tree.text(&join(group, "cpu.max")) {
        Fact::Known(text) => match text.split_once(' ') {
            Some(("max", _)) => Ok(None),
            Some((quota, period)) => ratio(quota, period).map(Some),
            None => Err(format!("{} is not a quota and a period", excerpt(&text))),
        },
        Fact::Unknown { .. } => Ok(None),
    })
}

/// Walks from the process's own group up to the mount; `limit` gives a group's limit in CPUs.
fn tightest(
    mount: &str,
    path: &str,
    cgroup_version: u32,
    limit: impl Fn(&str) -> Result<Option<f64>, String>,
) -> Fact<Quota> {
    let own = join(mount, path.trim_matches('/'));
    let own = own.trim_end_matches('/');
    let mut tightest = Quota { cgroup_version, cpus: None, group: own.to_owned() };
    let mut group = own;
    for _ in 0..GROUP_LEVELS_MAX {
        match limit(group) {
            Ok(Some(cpus)) if tightest.cpus.is_none_or(|least| cpus < least) => {
                tightest.cpus = Some(cpus);
                tightest.group = group.to_owned();
            }
            Ok(_) => {}
            Err(error) => return Fact::unknown(format!("{group}: {error}")),
        }
        match group.rsplit_once('/') {
            Some((above, _)) if group.len() > mount.len() => group = above,
            _ => return Fact::Known(tightest),
        }
    }
    Fact::unknown(format!("{own}: over {GROUP_LEVELS_MAX} levels of groups"))
}

fn ratio(quota: &str, period: &str) -> Result<f64, String> {
    match (quota.trim().parse::<f64>(), period.trim().parse::<f64>()) {
        (Ok(quota), Ok(period)) if quota.is_finite() && quota >= 0.0 && period >= 1.0 => {
            Ok(quota / period)
        }
        _ => Err(format!("{} over {} is not a quota", excerpt(quota), excerpt(period))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    fn quota_in(files: &[(&str, &str)]) -> Fact<Quota> {
        let directory = TestDirectory::new("limits");
        for (path, contents) in files {
            directory.file(path, contents.as_bytes());
        }
        quota(&Tree::recorded(directory.path()).unwrap())
    }

    fn known(cgroup_version: u32, cpus: Option<f64>, group: &str) -> Fact<Quota> {
        Fact::Known(Quota { cgroup_version, cpus, group: group.into() })
    }

    #[test]
    fn the_tightest_group_of_version_2_wins() {
        let quota = quota_in(&[
            ("proc/self/cgroup", "0::/pod/app\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
            ("sys/fs/cgroup/pod/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/pod/app/cpu.max", "400000 100000\n"),
        ]);
        assert_eq!(quota, known(2, Some(1.5), "/sys/fs/cgroup/pod"));
    }

    #[test]
    fn a_group_without_limit_is_known_to_have_none() {
        let quota = quota_in(&[
            ("proc/self/cgroup", "0::/app\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpu\n"),
            ("sys/fs/cgroup/app/cpu.max", "max 100000\n"),
        ]);
        assert_eq!(quota, known(2, None, "/sys/fs/cgroup/app"));
    }

    #[test]
    fn version_1_is_read_where_it_holds_the_controller() {
        let quota = quota_in(&[
            ("proc/self/cgroup", "4:cpu,cpuacct:/docker/x\n0::/\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(quota, known(1, Some(0.5), "/sys/fs/cgroup/cpu,cpuacct"));
    }

    #[test]
    fn no_cgroup_mount_and_nonsense_are_unknown() {
        assert!(quota_in(&[("proc/self/cgroup", "0::/app\n")]).known().is_none());
        assert!(quota_in(&[("proc/self/cgroup", "nonsense")]).known().is_none());
        let nonsense = quota_in(&[
            ("proc/self/cgroup", "0::/../../app\n"),
            ("sys/fs/cgroup/cgroup.controllers", ""),
            ("sys/fs/cgroup/cpu.max", "NaN inf\n"),
        ]);
        assert!(nonsense.known().is_none(), "{nonsense:?}");
    }
}
