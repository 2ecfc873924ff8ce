//! The boot bundle as a store of images.
//!
//! Guests are loaded one after the other. All but the last user of an image get copies of its pages;
//! the last one gets the frames themselves, and what it did not need goes back to the pool. An image
//! that a guest may need again (it restarts on reboot) stays until that guest has ended for good.

use crate::host::Host;
use arrayvec::ArrayVec;
use pleat_bundle::config::{GuestConfig, OnReboot, RunConfig};
use pleat_bundle::header::MAX_SECTIONS;
use pleat_bundle::{BundleError, Header, PAGE_SIZE, Section, SectionCheck};
use pleat_types::{FrameMemory, Hfn, Hpa, Platform};

/// One section of the bundle.
#[derive(Clone, Debug)]
struct Image {
    section: Section,
    /// Guests that have not been loaded from it yet.
    users: u32,
    /// Guests that have not ended and load from it again when they reboot.
    keepers: u32,
    is_verified: bool,
}

/// How the pages of an image may be used by the guest that is being loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Handover {
    /// Others need them, too.
    Copy,
    /// This guest is the last: whole pages can become its own.
    Give,
}

/// An image that is being used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OpenImage {
    /// Where it starts in host memory: on a page.
    pub(crate) start: Hpa,
    /// Its size.
    pub(crate) bytes: u64,
    pub(crate) handover: Handover,
}

/// All sections of the bundle.
#[derive(Debug)]
pub(crate) struct Images {
    base: Hpa,
    /// The number of the first frame behind the bundle.
    end: u64,
    all: ArrayVec<Image, MAX_SECTIONS>,
}

impl Images {
    /// The bundle at this place, with nobody using it.
    pub(crate) fn new(base: Hpa, header: &Header) -> Self {
        let image = |section: &Section| Image {
            section: *section,
            users: 0,
            keepers: 0,
            is_verified: false,
        };
        let end = base.hfn().get() + header.total_bytes().div_ceil(PAGE_SIZE as u64);
        Self {
            base,
            end,
            all: header.sections().iter().map(image).collect(),
        }
    }

    /// Notes who will use which image.
    pub(crate) fn plan(&mut self, config: &RunConfig<'_>) {
        for guest in &config.guests {
            for index in images_of(guest) {
                if let Some(image) = self.all.get_mut(usize::from(index)) {
                    image.users += 1;
                    image.keepers += u32::from(guest.on_reboot == OnReboot::Restart);
                }
            }
            if let Some(image) = disk_of(guest).and_then(|index| self.all.get_mut(index)) {
                image.keepers += 1;
            }
        }
    }

    /// Frames of the images that a guest is loaded from.
    pub(crate) fn frames_of(&self, guest: &GuestConfig<'_>) -> u64 {
        let images = images_of(guest).filter_map(|index| self.all.get(usize::from(index)));
        images.map(|image| image.section.pages()).sum()
    }

    /// Frames of images that stay as long as guests do that may need them again.
    pub(crate) fn kept_frames(&self) -> u64 {
        let kept = self.all.iter().filter(|image| image.keepers > 0);
        kept.map(|image| image.section.pages()).sum()
    }

    /// Notes that this guest, which has been loaded or could not be, will not be loaded again.
    fn forget(&mut self, guest: &GuestConfig<'_>) {
        if let Some(image) = disk_of(guest).and_then(|index| self.all.get_mut(index)) {
            image.keepers = image.keepers.saturating_sub(1);
        }
        if guest.on_reboot == OnReboot::Stop {
            return;
        }
        for index in images_of(guest) {
            if let Some(image) = self.all.get_mut(usize::from(index)) {
                image.keepers = image.keepers.saturating_sub(1);
            }
        }
    }

    fn start_of(&self, section: &Section) -> Hpa {
        // The header was checked: the section lies in the bundle, and the bundle in memory.
        Hpa::new(self.base.get().wrapping_add(section.offset))
    }
}

/// The sections that a guest is loaded from.
fn images_of(guest: &GuestConfig<'_>) -> impl Iterator<Item = u16> {
    core::iter::once(guest.kernel).chain(guest.initramfs)
}

/// The section with the base image of a guest's disk: it stays as long as the guest.
fn disk_of(guest: &GuestConfig<'_>) -> Option<usize> {
    guest.devices.disk.map(|disk| usize::from(disk.image))
}

impl<P: Platform> Host<P> {
    /// Gives a guest that is being loaded its image, verified.
    pub(crate) fn open_image(&mut self, images: &mut Images, index: u16) -> Result<OpenImage, BundleError> {
        let missing = BundleError::NoSection {
            section: usize::from(index),
        };
        let image = images.all.get(usize::from(index)).ok_or(missing)?;
        let (start, bytes) = (images.start_of(&image.section), image.section.bytes);
        let is_last = image.users <= 1 && image.keepers == 0;
        if !image.is_verified {
            self.verify(start, &image.section)?;
        }
        images.all[usize::from(index)].is_verified = true;
        let handover = if is_last { Handover::Give } else { Handover::Copy };
        Ok(OpenImage {
            start,
            bytes,
            handover,
        })
    }

    /// The guest that was being loaded is done with this image, however that went.
    pub(crate) fn close_image(&mut self, images: &mut Images, index: u16) {
        if let Some(image) = images.all.get_mut(usize::from(index)) {
            image.users = image.users.saturating_sub(1);
        }
        self.release_unused(images);
    }

    /// A guest ends without ever having been loaded.
    pub(crate) fn skip_images(&mut self, images: &mut Images, guest: &GuestConfig<'_>) {
        for index in images_of(guest) {
            self.close_image(images, index);
        }
    }

    /// A guest has ended for good: what only it could have needed again goes back.
    pub(crate) fn leave_images(&mut self, images: &mut Images, guest: &GuestConfig<'_>) {
        images.forget(guest);
        self.release_unused(images);
    }

    /// Gives back every frame of images that nobody needs any more.
    pub(crate) fn release_unused(&mut self, images: &mut Images) {
        for index in 0..images.all.len() {
            let image = &images.all[index];
            if image.users == 0 && image.keepers == 0 {
                let first = images.start_of(&image.section).hfn();
                self.release_range(first, image.section.pages());
                // What is given back is gone: the section has no pages any more.
                images.all[index].section.bytes = 0;
            }
        }
    }

    /// Gives back what lies between the sections, the header page included.
    pub(crate) fn release_gaps(&mut self, images: &Images) {
        let mut behind = images.base.hfn();
        for image in &images.all {
            let first = images.start_of(&image.section).hfn();
            self.release_range(behind, first.get().saturating_sub(behind.get()));
            behind = Hfn::new(first.get() + image.section.pages());
        }
        self.release_range(behind, images.end.saturating_sub(behind.get()));
    }

    /// Gives back frames of the bundle, as far as they still belong to it.
    pub(crate) fn release_range(&mut self, first: Hfn, count: u64) {
        for offset in 0..count {
            self.frames.release_bundle(Hfn::new(first.get() + offset));
        }
    }

    fn verify(&mut self, start: Hpa, section: &Section) -> Result<(), BundleError> {
        let mut check = SectionCheck::new(section);
        let mut page = [0; PAGE_SIZE];
        for offset in 0..section.pages() {
            self.platform
                .memory()
                .read_frame(Hfn::new(start.hfn().get() + offset), &mut page);
            check.update(&page);
        }
        check.finish()
    }
}
