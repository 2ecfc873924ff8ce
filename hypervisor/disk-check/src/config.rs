//! Which disk the guests file speaks of.

use pleat_bundle::config::{HostDisk, decode};
use pleat_bundle::{Header, SectionKind};
use pleat_machine::Bare;
use pleat_types::{DiskKind, FRAME_SIZE, FrameMemory, Hpa};

/// The longest configuration that is read: one without guests is far shorter.
const CONFIG_MAX: usize = 2048;

/// The kind of disk to open, as [`Bare::disk_open`] takes it; `None` where the machine has none.
pub fn disk_kind(machine: &mut Bare) -> Option<Option<DiskKind>> {
    let bundle = machine.bundle().base();
    let mut page = [0; FRAME_SIZE];
    machine.memory().read(bundle, &mut page);
    let header = Header::parse(&page).ok()?;
    let (_, section) = header.find(SectionKind::Config)?;
    let mut bytes = [0; CONFIG_MAX];
    let length = usize::try_from(section.bytes).ok()?;
    let record = bytes.get_mut(..length)?;
    machine
        .memory()
        .read(Hpa::new(bundle.get() + section.offset), record);
    match decode(record).ok()?.disk {
        HostDisk::Absent => None,
        HostDisk::Best => Some(None),
        HostDisk::AtaPio => Some(Some(DiskKind::AtaPio)),
        HostDisk::Virtio => Some(Some(DiskKind::Virtio)),
    }
}
