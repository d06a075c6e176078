//! Text that somebody else wrote: bounded and escaped before a person sees it.

/// At most `max_bytes` of the text, with everything that could move a cursor or turn a line around written as `\u{..}`. One line:
/// a new line becomes a space.
pub(crate) fn escape(text: &str, max_bytes: usize) -> String {
    let mut escaped = String::with_capacity(text.len().min(max_bytes));
    for c in text.chars() {
        if escaped.len() + c.len_utf8() > max_bytes {
            escaped.push('…');
            break;
        }
        match c {
            '\n' => escaped.push(' '),
            c if is_plain(c) => escaped.push(c),
            c => escaped.extend(c.escape_default()),
        }
    }
    escaped
}

/// Whether a text has only characters that show as themselves.
pub(crate) fn is_printable(text: &str) -> bool {
    text.chars().all(is_plain)
}

fn is_plain(c: char) -> bool {
    // Besides control characters: marks that change the direction of a line, and line separators.
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_is_spelled_out() {
        assert_eq!(escape("red \u{1b}[31m\nüß\u{202e}", 99), "red \\u{1b}[31m üß\\u{202e}");
        assert_eq!(escape("äää", 4), "ää…");
        assert!(is_printable("a policy ✓"));
        assert!(!is_printable("a\u{7}"));
    }
}
