//! A machine with a bundle and guests, and what came of running it.

use crate::fake::{FakePlatform, Op, TSC_HZ};
use crate::fake_disk::FakeDisk;
use pleat_bundle::SectionKind;
use pleat_bundle::config::{
    DeviceConfig, GuestConfig, HostDisk, Merge, MergeConfig, OnReboot, Pages, ReclaimConfig, RunConfig,
    Start, Terms, encode,
};
use pleat_bundle::write::BundleWriter;
use pleat_overcommit::ledger::{FrameRecord, Region};
use pleat_types::{FrameMemory, Gfn, Hfn, Hpa, Tsc};
use pleat_vmm::{BootContext, BootRegion, Hypervisor, Outcome, Storage};
use serde_json::Value;
use std::collections::HashMap;

const BUNDLE: u64 = 4 << 20;
pub const KERNEL_AT: u64 = 0x10_0000;
/// The section of the bundle with the base image of disks.
pub const DISK: u16 = 4;

pub fn guest(name: &'static str) -> GuestConfig<'static> {
    GuestConfig {
        name,
        memory_bytes: 2 << 20,
        kernel: 0,
        initramfs: None,
        command_line: "quiet",
        weight: 100,
        domain: name,
        pages: Pages::Small,
        start: Start::Now,
        on_reboot: OnReboot::Stop,
        merge: Merge::On,
        terms: Terms::default(),
        devices: DeviceConfig::NONE,
    }
}

pub fn run_config(guests: Vec<GuestConfig<'static>>) -> RunConfig<'static> {
    RunConfig {
        tsc_hz: Some(TSC_HZ),
        slice_us: 100,
        seed: Some(1),
        merge: MergeConfig::default(),
        // Tests of the rest count frames, and what happens when there are none left for good.
        reclaim: ReclaimConfig::OFF,
        guests: guests.into_iter().collect(),
        ..RunConfig::default()
    }
}

/// An ELF file with a PVH note and these pages at [`KERNEL_AT`].
pub fn kernel(pages: &[[u8; 4096]], bss_bytes: u64) -> Vec<u8> {
    let mut file = vec![0u8; 4096];
    let bytes = pages.len() as u64 * 4096;
    let header: [(usize, &[u8]); 7] = [
        (0, b"\x7fELF\x02\x01\x01"),
        (18, &62u16.to_le_bytes()),
        (24, &KERNEL_AT.to_le_bytes()),
        (32, &64u64.to_le_bytes()),
        (54, &56u16.to_le_bytes()),
        (56, &2u16.to_le_bytes()),
        (16, &2u16.to_le_bytes()),
    ];
    for (at, value) in header {
        file[at..at + value.len()].copy_from_slice(value);
    }
    let mut program_header = |at: usize, kind: u32, fields: [u64; 5]| {
        file[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        for (index, field) in fields.iter().enumerate() {
            file[at + 8 + index * 8..at + 16 + index * 8].copy_from_slice(&field.to_le_bytes());
        }
    };
    program_header(64, 1, [4096, KERNEL_AT, KERNEL_AT, bytes, bytes + bss_bytes]);
    program_header(120, 4, [0x400, 0, 0, 20, 20]);
    file[0x400..0x414].copy_from_slice(&[
        4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, b'X', b'e', b'n', 0, 0x10, 0, 0x10, 0,
    ]);
    pages.iter().for_each(|page| file.extend_from_slice(page));
    file
}

/// Three pages: of ones, of zeros, of twos.
pub fn plain_kernel() -> Vec<u8> {
    kernel(&[[1; 4096], [0; 4096], [2; 4096]], 8192)
}

pub struct Machine {
    pub config: RunConfig<'static>,
    pub programs: Vec<Vec<Op>>,
    pub kernel: Vec<u8>,
    pub initramfs: Option<Vec<u8>>,
    /// The base image of disks: section [`DISK`].
    pub disk: Option<Vec<u8>>,
    pub memory_bytes: usize,
    pub input: Vec<u8>,
    /// Ticks that the console's line takes for a byte.
    pub console_ticks: u64,
    /// Whether extended page tables can map 1 GiB.
    pub has_huge_ept: bool,
    /// Whether the processor logs which pages become dirty.
    pub has_dirty_log: bool,
    /// The disk of the host.
    pub host_disk: Option<FakeDisk>,
}

pub struct Report {
    pub outcome: Outcome,
    pub guests: Vec<GuestConfig<'static>>,
    pub records: Vec<Value>,
    pub platform: FakePlatform,
    /// What pages of guests have, those that are in no frame too, by guest and page number. No pages of zeros.
    pub contents: HashMap<(usize, u64), [u8; 4096]>,
    pub bundle_frames: std::ops::Range<u64>,
}

impl Machine {
    pub fn new(guests: Vec<(GuestConfig<'static>, Vec<Op>)>) -> Self {
        let (configs, programs) = guests.into_iter().unzip();
        Self {
            config: run_config(configs),
            programs,
            kernel: plain_kernel(),
            initramfs: None,
            disk: None,
            memory_bytes: 16 << 20,
            input: vec![],
            console_ticks: 0,
            has_huge_ept: true,
            has_dirty_log: false,
            host_disk: None,
        }
    }

    /// Runs it to its end; the audit must be clean.
    pub fn run(self) -> Report {
        let report = self.run_unchecked();
        assert_eq!(report.stats()["host"]["audit"], "clean");
        report
    }

    /// Runs it with one byte of this page of the bundle flipped.
    pub fn run_damaged(self, page: usize) -> Report {
        self.run_with(|bundle| bundle[page * 4096 + 2000] ^= 1)
    }

    pub fn run_unchecked(self) -> Report {
        self.run_with(|_| {})
    }

    fn run_with(self, damage: impl FnOnce(&mut [u8])) -> Report {
        let mut config = self.config.clone();
        if self.host_disk.is_some() {
            config.disk = HostDisk::Best;
        }
        let config = encode(&config).expect("encodes");
        let mut writer = BundleWriter::new();
        writer
            .add(SectionKind::Kernel, "kernel", self.kernel)
            .expect("fits");
        writer
            .add(
                SectionKind::Initramfs,
                "initramfs",
                self.initramfs.unwrap_or(vec![7; 5000]),
            )
            .expect("fits");
        writer.add(SectionKind::Config, "config", config).expect("fits");
        writer
            .add(SectionKind::Hypervisor, "hypervisor", vec![9; 9000])
            .expect("fits");
        if let Some(disk) = self.disk {
            writer.add(SectionKind::Disk, "disk", disk).expect("fits");
        }
        let mut bundle = writer.finish();
        damage(&mut bundle);
        let mut platform = FakePlatform::new(self.memory_bytes, self.programs);
        platform.has_huge_ept = self.has_huge_ept;
        platform.has_dirty_log = self.has_dirty_log;
        platform.disk = self.host_disk;
        platform.memory.write(Hpa::new(BUNDLE), &bundle);
        platform.input = self.input.into();
        platform.line.ticks_per_byte = self.console_ticks;
        let frames = self.memory_bytes as u64 / 4096;
        let records = Box::leak(vec![FrameRecord::RESERVED; frames as usize].into_boxed_slice());
        let regions = [
            BootRegion {
                first: Hfn::new(256),
                frames: frames - 256,
                class: Region::Usable,
            },
            BootRegion {
                first: Hfn::new(512),
                frames: 16,
                class: Region::Image,
            },
            BootRegion {
                first: Hfn::new(528),
                frames: 4,
                class: Region::Metadata,
            },
        ];
        let boot = BootContext {
            regions: &regions,
            records,
            bundle: Hpa::new(BUNDLE),
            bundle_bytes: bundle.len() as u64,
            reset: Tsc(0),
        };
        let storage = Box::leak(Box::new(Storage::EMPTY));
        let mut hypervisor = Hypervisor::new(platform, boot, storage).expect("starts");
        let outcome = hypervisor.run();
        let contents = contents(&mut hypervisor, &self.config.guests);
        let platform = std::mem::replace(hypervisor.platform(), FakePlatform::new(0, vec![]));
        let text = String::from_utf8(platform.stream.clone()).expect("UTF-8");
        let records = text
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect();
        let bundle_frames = BUNDLE / 4096..(BUNDLE + bundle.len() as u64) / 4096;
        Report {
            outcome,
            guests: self.config.guests.into_iter().collect(),
            records,
            platform,
            contents,
            bundle_frames,
        }
    }
}

/// What pages of guests have, by guest and page number.
fn contents(
    hypervisor: &mut Hypervisor<FakePlatform>,
    guests: &[GuestConfig<'static>],
) -> HashMap<(usize, u64), [u8; 4096]> {
    let mut contents = HashMap::new();
    for (index, guest) in guests.iter().enumerate() {
        for gfn in 0..guest.memory_bytes / 4096 {
            let mut page = [0; 4096];
            if hypervisor.peek(index, Gfn::new(gfn), &mut page) && page != [0; 4096] {
                contents.insert((index, gfn), page);
            }
        }
    }
    contents
}

impl Report {
    pub fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.records.iter().filter(|record| record["k"] == kind).collect()
    }

    /// The final statistics.
    pub fn stats(&self) -> &Value {
        &self.of_kind("stats").last().expect("there are statistics")["record"]
    }

    pub fn guest(&self, name: &str) -> &Value {
        let guests = self.stats()["guests"].as_array().expect("a list");
        guests
            .iter()
            .find(|guest| guest["name"] == name)
            .expect("there is such a guest")
    }

    /// Everything that a guest printed.
    pub fn output(&self, name: &str) -> String {
        let chunks = self
            .of_kind("out")
            .into_iter()
            .filter(|record| record["guest"] == name);
        chunks
            .map(|record| record["text"].as_str().expect("a text").to_string())
            .collect()
    }

    /// The answers of console commands.
    pub fn answers(&self) -> String {
        let lines = self.of_kind("console").into_iter();
        lines
            .map(|record| record["text"].as_str().expect("a text").to_string() + "\n")
            .collect()
    }
}
