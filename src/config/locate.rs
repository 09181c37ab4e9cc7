//! Where in a TOML text a path is, and which path is at an offset. For messages only; it decides nothing.

/// The line of `table.key` (array elements as `table[0].key`); of the longest known beginning of it otherwise.
pub(super) fn line_of_key(text: &str, path: &str) -> Option<usize> {
    let mut wanted = path;
    loop {
        let found = lines(text).find(|(_, at)| at == wanted).map(|(line, _)| line);
        if found.is_some() {
            return found;
        }
        wanted = wanted.get(..wanted.rfind(['.', '['])?)?;
    }
}

/// The path of the key on the line of `offset`.
pub(super) fn key_at(text: &str, offset: usize) -> String {
    let line = text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
    lines(text).take_while(|(at, _)| *at <= line).last().map(|(_, path)| path).unwrap_or_default()
}

/// Every line that begins a table or a key, with its path.
fn lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut table = String::new();
    let mut arrays: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    text.lines().enumerate().filter_map(move |(at, line)| {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("[[").and_then(|rest| rest.split("]]").next()) {
            let count = arrays.entry(name.trim().to_owned()).and_modify(|n| *n += 1).or_insert(0);
            table = format!("{}[{count}]", name.trim());
            return Some((at + 1, table.clone()));
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = name.trim().to_owned();
            return Some((at + 1, table.clone()));
        }
        let key = line.split_once('=')?.0.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.\"".contains(c);
        if key.is_empty() || !key.chars().all(plain) {
            return None;
        }
        let key = key.replace('"', "");
        Some((at + 1, if table.is_empty() { key } else { format!("{table}.{key}") }))
    })
}
