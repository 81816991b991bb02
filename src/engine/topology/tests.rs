//! Tests of the plan, with made-up `/proc` and `/sys`.

use super::*;

/// A directory that stands for `/` and is removed in the end.
struct Root(PathBuf);

impl Root {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let unique = format!("postring-topology-{}-{name}", std::process::id());
        let root = Self(std::env::temp_dir().join(unique));
        for (path, text) in files {
            let path = root.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn quota_cores(&self) -> Option<f64> {
        quota_cores(&self.0)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const ALLOWED: &[usize] = &[0, 1, 2, 3, 8];

fn pinned(cpus: &[usize]) -> Vec<Option<usize>> {
    cpus.iter().copied().map(Some).collect()
}

#[test]
fn every_allowed_cpu_gets_a_pinned_thread() {
    let plan = plan_for(Some(ALLOWED), None, None).unwrap();
    let cpus = pinned(ALLOWED);
    assert_eq!(plan, Plan { cpus, pinned: true, may_spin: true, quota_cores: None });
}

#[test]
fn a_quota_limits_the_threads_and_neither_pins_nor_spins() {
    for (quota, threads) in [(0.1, 1), (1.0, 1), (1.5, 2), (4.99, 5)] {
        let plan = plan_for(Some(ALLOWED), None, Some(quota)).unwrap();
        assert_eq!(plan.cpus, vec![None; threads], "{quota}");
        assert_eq!((plan.pinned, plan.may_spin), (false, false));
        assert_eq!(plan.quota_cores, Some(quota));
    }
}

#[test]
fn a_quota_that_grants_every_cpu_changes_nothing() {
    let plan = plan_for(Some(ALLOWED), None, Some(5.0)).unwrap();
    assert_eq!((plan.cpus, plan.pinned, plan.may_spin), (pinned(ALLOWED), true, true));
}

#[test]
fn a_choice_is_kept_in_its_order_and_pinned_even_under_a_quota() {
    let plan = plan_for(Some(ALLOWED), Some(&[8, 2]), None).unwrap();
    assert_eq!((plan.cpus, plan.pinned, plan.may_spin), (pinned(&[8, 2]), true, true));
    let plan = plan_for(Some(ALLOWED), Some(&[8, 2]), Some(1.5)).unwrap();
    assert_eq!((plan.cpus, plan.pinned, plan.may_spin), (pinned(&[8, 2]), true, false));
}

#[test]
fn an_impossible_choice_is_refused_with_the_reason() {
    let refused = |choice: &[usize]| plan_for(Some(ALLOWED), Some(choice), None).unwrap_err();
    assert_eq!(refused(&[]), ChoiceError::Empty);
    assert_eq!(refused(&[1, 2, 1]), ChoiceError::Twice { cpu: 1 });
    let text = refused(&[1, 5]).to_string();
    assert_eq!(text, "CPU 5 is not allowed for this process; allowed: 0-3,8");
    assert_eq!(plan_for(None, Some(&[0]), None).unwrap_err(), ChoiceError::Unknown);
}

#[test]
fn where_nothing_is_known_the_standard_library_counts() {
    let plan = plan_for(None, None, None).unwrap();
    assert_eq!(plan.cpus.len(), thread::available_parallelism().unwrap().get());
    assert!(!plan.pinned && plan.cpus.iter().all(Option::is_none));
}

#[test]
fn cpus_are_written_as_the_kernel_writes_them() {
    assert_eq!(ranges(&[]), "");
    assert_eq!(ranges(&[7]), "7");
    assert_eq!(ranges(&[0, 1, 3, 5, 6, 7]), "0-1,3,5-7");
}

#[test]
fn version_2_takes_the_smallest_quota_up_the_hierarchy() {
    let root = Root::new(
        "v2",
        &[
            ("proc/self/cgroup", "0::/machine.slice/box.scope/app\n"),
            ("sys/fs/cgroup/machine.slice/cpu.max", "400000 100000\n"),
            ("sys/fs/cgroup/machine.slice/box.scope/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/machine.slice/box.scope/app/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/other/cpu.max", "1000 100000\n"),
        ],
    );
    assert_eq!(root.quota_cores(), Some(1.5));
}

#[test]
fn in_a_container_the_root_seen_is_the_group() {
    let unseen = ("proc/self/cgroup", "0::/kubepods/pod7\n");
    let root = Root::new("container", &[unseen, ("sys/fs/cgroup/cpu.max", "50000 100000\n")]);
    assert_eq!(root.quota_cores(), Some(0.5));
    let outside = ("proc/self/cgroup", "0::/../../other\n");
    let root = Root::new("outside", &[outside, ("sys/fs/cgroup/cpu.max", "50000 100000\n")]);
    assert_eq!(root.quota_cores(), Some(0.5));
}

#[test]
fn version_1_and_both_versions_together() {
    let groups = "4:memory:/m\n3:cpu,cpuacct:/app\n0::/app\n";
    let root = Root::new(
        "v1",
        &[
            ("proc/self/cgroup", groups),
            ("sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us", "250000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ],
    );
    assert_eq!(root.quota_cores(), Some(2.5));
    let unified = root.0.join("sys/fs/cgroup/unified/app");
    fs::create_dir_all(&unified).unwrap();
    fs::write(unified.join("cpu.max"), "200000 100000\n").unwrap();
    assert_eq!(root.quota_cores(), Some(2.0));
}

#[test]
fn no_group_no_file_and_nonsense_mean_no_quota() {
    assert_eq!(Root::new("nothing", &[]).quota_cores(), None);
    for (nth, text) in ["", "max", "0 100000", "100000 0", "many few", "5"].iter().enumerate() {
        let groups = ("proc/self/cgroup", "bad line\n0::/\n");
        let name = format!("nonsense-{nth}");
        let root = Root::new(&name, &[groups, ("sys/fs/cgroup/cpu.max", text)]);
        assert_eq!(root.quota_cores(), None, "{text:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_thread_is_pinned_and_unpinned() {
    use rustix::thread::sched_getaffinity;

    let nothing = Root::new("pin", &[]);
    let plan = plan(None, &nothing.0).unwrap();
    let last = plan.cpus.last().copied().flatten().expect("Linux names the allowed CPUs");
    let cpus = plan.cpus.len();
    let seen = thread::spawn(move || {
        assert!(pin(last));
        let pinned = sched_getaffinity(None).unwrap();
        assert_eq!(cpu_count(), cpus, "counted as if not pinned");
        unpin();
        (pinned, sched_getaffinity(None).unwrap())
    });
    let (pinned, unpinned) = seen.join().unwrap();
    assert!(pinned.count() == 1 && pinned.is_set(last));
    assert_eq!(unpinned.count() as usize, cpus);
    assert!(!pin(1 << 20), "no such CPU");
}

#[test]
fn this_machine_has_a_plan() {
    let plan = plan(None, Path::new("/")).unwrap();
    assert!(!plan.cpus.is_empty());
    assert_eq!(plan.pinned, plan.cpus.iter().all(Option::is_some));
}
