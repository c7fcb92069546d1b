//! For tests: a strict reader of tags, which fails where one is not closed, closed twice or quoted wrongly.

/// Panics unless every tag is closed in order, every attribute quoted and every `&` part of an entity.
pub(crate) fn assert_well_formed(markup: &str) {
    if let Err(why) = check(markup) {
        panic!("not well-formed: {why}");
    }
}

fn check(markup: &str) -> Result<(), String> {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = markup;
    while let Some(start) = rest.find('<') {
        entities(&rest[..start])?;
        rest = &rest[start + 1..];
        if rest.starts_with('!') {
            rest = &rest[rest.find('>').ok_or("a declaration has no end")? + 1..];
            continue;
        }
        let end = rest.find('>').ok_or("a tag has no end")?;
        let (tag, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("</{name}> closes nothing"));
            }
            continue;
        }
        let closed = tag.ends_with('/');
        let tag = tag.trim_end_matches('/');
        let name = tag.split_whitespace().next().ok_or("a tag has no name")?;
        attributes(&tag[name.len()..]).map_err(|why| format!("<{tag}>: {why}"))?;
        if matches!(name, "script" | "style") {
            let close = format!("</{name}>");
            rest = &rest[rest.find(&close).ok_or("a script has no end")? + close.len()..];
        } else if !closed {
            open.push(name);
        }
    }
    entities(rest)?;
    if open.is_empty() { Ok(()) } else { Err(format!("still open: {open:?}")) }
}

fn attributes(text: &str) -> Result<(), String> {
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").ok_or(format!("no quoted value at {rest:?}"))?;
        if name.trim().is_empty() || name.contains(['"', '<', '\'']) {
            return Err(format!("an attribute named {name:?}"));
        }
        let (value, after) = value.split_once('"').ok_or("a quote is left open")?;
        entities(value)?;
        rest = after.trim_start();
    }
    Ok(())
}

fn entities(text: &str) -> Result<(), String> {
    for piece in text.split('&').skip(1) {
        let name = piece.split(';').next().filter(|name| name.len() < piece.len());
        if !name.is_some_and(|name| matches!(name, "amp" | "lt" | "gt" | "quot" | "#39")) {
            return Err(format!("a bare & before {piece:?}"));
        }
    }
    Ok(())
}

#[test]
fn the_reader_sees_what_is_wrong() {
    for good in ["<!DOCTYPE html><p a=\"1\">x &amp; y<br/></p>", "<style>a>b{}</style>"] {
        assert_eq!(check(good), Ok(()));
    }
    for bad in ["<p>", "</p>", "<p><b></p></b>", "<p a=1></p>", "a & b", "<p a=\"&\"></p>", "<p", "<p a=\"1></p>"] {
        assert!(check(bad).is_err(), "{bad}");
    }
}
