//! The interrupts of one device: numbers, names, and the CPUs they may go to and do go to.
//!
//! Above: `nics` asks for each interface. Below: `tree`.
//! Absent: no counts (they change while one reads) and no NAPI (netlink knows that join).
//! Bounds: `DEVICE_LEVELS_MAX` steps up the device tree, never beyond the device that owns IRQs.

use serde::Serialize;

use crate::cpus::CpuSet;
use crate::fact::Fact;
use crate::tree::Tree;
use crate::words::join;

/// Steps from the interface's device up to the one with interrupts: virtio needs one step.
const DEVICE_LEVELS_MAX: usize = 4;

/// The interrupts and the place that listed them.
#[derive(Debug, Serialize)]
pub(crate) struct Irqs {
    /// The directory or file that names the interrupts.
    pub(crate) source: String,
    pub(crate) list: Vec<Irq>,
}

/// One interrupt.
#[derive(Debug, Serialize)]
pub(crate) struct Irq {
    pub(crate) irq: u32,
    /// Names of the handlers, separated by commas.
    pub(crate) actions: Fact<String>,
    /// CPUs the interrupt may go to.
    pub(crate) affinity: Fact<CpuSet>,
    /// CPUs it goes to by the interrupt controller's choice.
    pub(crate) effective_affinity: Fact<CpuSet>,
}

/// The interrupts of interface `nic`, whose device is at `device` in the tree.
pub(super) fn read(tree: &Tree, nic: &str, device: &Fact<String>) -> Fact<Irqs> {
    let numbers = device.as_ref().and_then(|device| match by_device(tree, device) {
        Some(found) => Fact::Known(found),
        None => by_name(tree, nic),
    });
    numbers.map(|(source, numbers)| Irqs {
        source,
        list: numbers.into_iter().map(|irq| read_one(tree, irq)).collect(),
    })
}

/// Message-signalled interrupts of the nearest device that has any, or its one line interrupt.
fn by_device(tree: &Tree, device: &str) -> Option<(String, Vec<u32>)> {
    let mut place = device;
    for _ in 0..DEVICE_LEVELS_MAX {
        let source = join(place, "msi_irqs");
        if let Fact::Known(names) = tree.names(&source, true, |name| name.parse::<u32>().is_ok()) {
            let numbers: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
            if !numbers.is_empty() {
                return Some((source, numbers));
            }
        }
        let source = join(place, "irq");
        match tree.number::<u32>(&source) {
            // Zero means that no line is connected, and the device above is a bridge.
            Fact::Known(0) => return None,
            Fact::Known(irq) => return Some((source, vec![irq])),
            Fact::Unknown { .. } => place = place.rsplit_once('/')?.0,
        }
    }
    None
}

/// Lines of /proc/interrupts whose handler carries the interface's name, as `eth0-rx-1` does.
fn by_name(tree: &Tree, nic: &str) -> Fact<(String, Vec<u32>)> {
    const SOURCE: &str = "/proc/interrupts";
    tree.text(SOURCE).and_then(|text| {
        let numbers: Vec<u32> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter(|(_, rest)| rest.split_whitespace().any(|word| belongs(word, nic)))
            .filter_map(|(number, _)| number.trim().parse().ok())
            .collect();
        match numbers.is_empty() {
            true => Fact::unknown(format!(
                "{SOURCE}: no handler is named after {nic}, and its device lists no interrupts"
            )),
            false => Fact::Known((SOURCE.into(), numbers)),
        }
    })
}

/// True for `eth1`, `eth1-rx-0`, `mlx5@eth1`; false for `eth10` and `veth1`.
fn belongs(word: &str, nic: &str) -> bool {
    let part_of_name = |neighbour: char| neighbour.is_alphanumeric() || neighbour == '.';
    word.match_indices(nic).any(|(start, _)| {
        !nic.is_empty()
            && !word[..start].ends_with(part_of_name)
            && !word[start + nic.len()..].starts_with(part_of_name)
    })
}

fn read_one(tree: &Tree, irq: u32) -> Irq {
    let place = format!("/proc/irq/{irq}");
    Irq {
        irq,
        actions: tree.text(&format!("/sys/kernel/irq/{irq}/actions")),
        affinity: tree.cpu_list(&format!("{place}/smp_affinity_list")),
        effective_affinity: tree.cpu_list(&format!("{place}/effective_affinity_list")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    fn irqs_of(files: &[(&str, &str)]) -> Fact<Irqs> {
        let directory = TestDirectory::new("irqs");
        for (path, contents) in files {
            directory.file(path, contents.as_bytes());
        }
        let tree = Tree::recorded(directory.path()).unwrap();
        read(&tree, "eth1", &Fact::Known("/sys/devices/bus/port/nic".into()))
    }

    fn found(irqs: &Fact<Irqs>) -> Option<(&str, Vec<u32>)> {
        let irqs = irqs.known()?;
        Some((&irqs.source, irqs.list.iter().map(|irq| irq.irq).collect()))
    }

    #[test]
    fn the_nearest_device_with_interrupts_owns_them() {
        let irqs = irqs_of(&[
            ("sys/devices/bus/port/msi_irqs/9", ""),
            ("sys/devices/bus/port/msi_irqs/10", ""),
            ("sys/devices/bus/msi_irqs/5", ""),
        ]);
        assert_eq!(found(&irqs), Some(("/sys/devices/bus/port/msi_irqs", vec![9, 10])));
        let irqs = irqs_of(&[("sys/devices/bus/port/irq", "11"), ("sys/devices/bus/irq", "5")]);
        assert_eq!(found(&irqs), Some(("/sys/devices/bus/port/irq", vec![11])));
    }

    #[test]
    fn a_device_without_interrupts_is_looked_for_by_name_but_not_in_its_bridge() {
        let interrupts = "           CPU0\n  7:  1  vmbus  eth1-rx-0\n  8:  1  vmbus  eth10\n";
        let files = [
            ("sys/devices/bus/port/nic/irq", "0"),
            ("sys/devices/bus/msi_irqs/5", ""),
            ("proc/interrupts", interrupts),
        ];
        assert_eq!(found(&irqs_of(&files)), Some(("/proc/interrupts", vec![7])));
        let Fact::Unknown { unknown } = irqs_of(&files[..2]) else { panic!("known") };
        assert_eq!(unknown, "/proc/interrupts: No such file or directory");
    }

    #[test]
    fn a_handler_belongs_to_the_interface_it_names_whole() {
        for word in ["eth1", "eth1-TxRx-0", "mlx5_comp0@eth1", "i40e-eth1-TxRx-3"] {
            assert!(belongs(word, "eth1"), "{word}");
        }
        for word in ["eth10", "eth10-rx-0", "veth1", "eth1.5", "", "eth"] {
            assert!(!belongs(word, "eth1"), "{word}");
        }
        assert!(!belongs("anything", ""));
    }
}
