//! What the kernel and the system print while they start and stop.

use super::stage::Handover;

/// One line of the boot, at milliseconds since the kernel started on a real board.
pub(super) struct BootLine {
    pub(super) milliseconds: u64,
    pub(super) source: Source,
    pub(super) text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Printed with a time stamp and kept for `dmesg`.
    Kernel,
    /// The kernel mounts the root file system: needs the storage.
    Mount,
    /// The system's own start, without a time stamp.
    System,
}

pub(super) const RELEASE: &str = "6.18.2";
pub(super) const BUILD: &str = "#1 SMP PREEMPT Mon Jan  5 10:00:00 UTC 2026";

impl BootLine {
    /// The time stamp. The microseconds are made up, and the same each time.
    pub(super) fn seconds(&self) -> f64 {
        let microseconds = self.milliseconds * 1000 + self.milliseconds * 7919 % 1000;
        microseconds as f64 / 1e6
    }
}

const BEFORE_MOUNT: &[(u64, &str)] = &[
    (
        0,
        "Memory: 497216K/524288K available (9216K kernel code, 1024K rwdata, 27072K reserved)",
    ),
    (4, "rcu: Hierarchical RCU implementation."),
    (9, "arch_timer: cp15 timer(s) running at 24.00MHz (phys)."),
    (61, "Console: colour dummy device 80x25"),
    (118, "smp: Brought up 1 node, 4 CPUs"),
    (176, "devtmpfs: initialized"),
    (243, "NET: Registered PF_NETLINK/PF_ROUTE protocol family"),
    (402, "SCSI subsystem initialized"),
    (587, "NET: Registered PF_INET protocol family"),
    (
        764,
        "workingset: timestamp_bits=46 max_order=17 bucket_order=0",
    ),
    (
        931,
        "10000000.serial: ttyS0 at MMIO 0x10000000 (irq = 14, base_baud = 1500000) is a 16550A",
    ),
    (1102, "printk: legacy console [ttyS0] enabled"),
    (
        1287,
        "sdhci: Secure Digital Host Controller Interface driver",
    ),
    (1391, "mmc0: new high speed SDHC card at address 0001"),
];

const AFTER_MOUNT: &[(u64, Source, &str)] = &[
    (
        1583,
        Source::Kernel,
        "VFS: Mounted root (ext4 filesystem) readonly on device 179:1.",
    ),
    (1602, Source::Kernel, "Freeing unused kernel memory: 2048K"),
    (1617, Source::Kernel, "Run /sbin/init as init process"),
    (1850, Source::System, "INIT: version 3.14 booting"),
    (2100, Source::System, "Starting udev ... done"),
    (2500, Source::System, "Mounting local file systems ... done"),
    (2800, Source::System, "Starting system message bus: dbus."),
];

/// When the login prompt appears, in milliseconds since the kernel started.
pub(super) const LOGIN_MILLISECONDS: u64 = 3100;

/// The whole boot, in order of time.
pub(super) fn boot_lines(handover: &Handover, storage_length: u64) -> Vec<BootLine> {
    let first = [
        "Booting Linux on physical CPU 0x0000000000 [0x410fd034]".to_owned(),
        format!("Linux version {RELEASE} (builder@jmp) (aarch64-linux-gnu-gcc 14.2.0) {BUILD}"),
        "Machine model: Virtual Board".to_owned(),
        format!("Kernel command line: {}", handover.command_line),
    ];
    let size = storage_length >> 10;
    let kernel = |milliseconds, text: String| BootLine {
        milliseconds,
        source: Source::Kernel,
        text,
    };
    let mut lines: Vec<BootLine> = first.into_iter().map(|text| kernel(0, text)).collect();
    lines.extend(
        BEFORE_MOUNT
            .iter()
            .map(|&(at, text)| kernel(at, text.to_owned())),
    );
    lines.push(kernel(1402, format!("mmcblk0: mmc0:0001 JMPSD {size} KiB")));
    lines.push(kernel(1409, " mmcblk0: p1".to_owned()));
    lines.push(BootLine {
        milliseconds: 1571,
        source: Source::Mount,
        text: "EXT4-fs (mmcblk0p1): mounted filesystem with ordered data mode".to_owned(),
    });
    lines.extend(
        AFTER_MOUNT
            .iter()
            .map(|&(milliseconds, source, text)| BootLine {
                milliseconds,
                source,
                text: text.to_owned(),
            }),
    );
    lines
}

/// Why the kernel ends without a root file system.
pub(super) const MOUNT_PANIC: [&str; 3] = [
    "VFS: Cannot open root device \"/dev/mmcblk0p1\" or unknown-block(179,1): error -6",
    "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(179,1)",
    "---[ end Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(179,1) ]---",
];

/// What the kernel says when the card with its root file system goes away.
pub(super) const STORAGE_LOST: [&str; 4] = [
    "mmc0: card 0001 removed",
    "I/O error, dev mmcblk0, sector 2048 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 0",
    "EXT4-fs error (device mmcblk0p1): ext4_find_entry: inode #2: comm sh: reading directory lblock 0",
    "EXT4-fs (mmcblk0p1): Remounting filesystem read-only",
];

/// A line as the kernel prints it.
pub(super) fn stamped(seconds: f64, text: &str) -> String {
    format!("[{seconds:12.6}] {text}")
}
