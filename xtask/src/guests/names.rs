//! Which names a file may use, for messages that say what is allowed.

/// Processor models of Bochs that have what Pleat needs (EPT with A/D bits).
pub const PROCESSORS: [&str; 6] = [
    "corei7_haswell_4770",
    "broadwell_ult",
    "corei7_skylake_x",
    "corei3_cnl",
    "corei7_icelake_u",
    "tigerlake",
];

/// Picks the value that belongs to a word, or says which words are allowed.
pub fn choose<T: Copy>(what: &str, word: &str, allowed: &[(&str, T)]) -> Result<T, String> {
    let found = allowed.iter().find(|(name, _)| *name == word);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<String> = allowed.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        format!("`{word}` is no {what}; allowed: {}", names.join(", "))
    })
}

/// Checks a name of a guest, a domain or an event.
pub fn check_name(what: &str, name: &str) -> Result<(), String> {
    let max = pleat_bundle::config::MAX_NAME;
    let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > max || !name.chars().all(is_fine) {
        return Err(format!(
            "`{name}` is no name for {what}; allowed: 1 to {max} letters, digits, `-` and `_`"
        ));
    }
    Ok(())
}
