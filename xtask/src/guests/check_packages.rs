//! Checks the packages that a guest is to have.

use toml::Spanned;

use super::check::{Checked, at};
use super::{DiskImage, raw};

/// The packages of a guest, each once and in order, so that guests with the same ones share an image.
pub fn packages(raw: &raw::Guest) -> Checked<Vec<String>> {
    let names = raw.packages.iter().map(|name| at(name, |name| package(name)));
    let mut names: Vec<String> = names.collect::<Checked<_>>()?;
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// What a guest's disk has, if it has one: what the file says, and its packages.
pub fn with_packages(raw: &raw::Guest, image: Option<DiskImage>) -> Checked<Option<DiskImage>> {
    let packages = packages(raw)?;
    match image {
        _ if packages.is_empty() => Ok(image),
        None => Ok(Some(DiskImage::Programs(packages))),
        Some(DiskImage::Debian(_)) => Ok(Some(DiskImage::Debian(packages))),
        Some(_) => {
            let message = "packages do not go onto an image that is there already; leave `disk` out, or disk = \"debian\"";
            Err((raw.packages.first().map(Spanned::span), message.to_owned()))
        }
    }
}

/// A name as Debian allows it: nothing in it means anything to a shell, or is an option.
fn package(name: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_fine = |c: char| is_plain(c) || matches!(c, '+' | '-' | '.');
    // apt takes a last `+` or `-` for a wish to install or remove.
    if name.len() < 2
        || !name.starts_with(is_plain)
        || !name.chars().all(is_fine)
        || name.ends_with(['-', '+'])
    {
        return Err(format!(
            "`{name}` is no name of a Debian package; allowed: at least two lower-case letters, digits, `+`, `-` and `.`, \
             for example \"memtester\""
        ));
    }
    Ok(name.to_owned())
}
