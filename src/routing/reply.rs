//! What of an agent's words reaches a chat, and in which form.

/// Opens what an agent says to itself alone.
const TAG: &str = "internal";

/// `text` without what stands between `<internal>` and `</internal>`, trimmed.
///
/// The tag may have any case, white space and attributes; `<internal/>` holds nothing. A tag
/// inside needs an end of its own. What is not closed hides the rest: better too little than a
/// thought aloud. A closing tag without an opening one is dropped.
pub fn strip_internal(text: &str) -> String {
    let mut said = String::new();
    let mut depth = 0_usize;
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        if depth == 0 {
            said.push_str(before);
        }
        let (tag_bytes, change) = match internal_tag(tag) {
            Some((tag_bytes, Tag::Opens)) => (tag_bytes, depth + 1),
            Some((tag_bytes, Tag::Closes)) => (tag_bytes, depth.saturating_sub(1)),
            Some((tag_bytes, Tag::Empty)) => (tag_bytes, depth),
            None => {
                if depth == 0 {
                    said.push('<');
                }
                (1, depth)
            }
        };
        depth = change;
        rest = &tag[tag_bytes..];
    }
    if depth == 0 {
        said.push_str(rest);
    }
    said.trim().to_owned()
}

/// What is sent for an agent's answer; nothing where it only thought.
///
/// `is_prefixed`: whether `assistant_name` stands before it, for chats in which the assistant
/// speaks with somebody else's number.
pub fn reply_text(answer: &str, assistant_name: &str, is_prefixed: bool) -> Option<String> {
    let said = strip_internal(answer);
    if said.is_empty() {
        return None;
    }
    Some(if is_prefixed { format!("{assistant_name}: {said}") } else { said })
}

/// `text` in pieces of at most `bytes_max` bytes, none of them blank: between paragraphs where
/// that can be done, else lines, else words, else anywhere between two characters.
///
/// A character of more bytes than `bytes_max` is a piece of its own.
pub fn split_text(text: &str, bytes_max: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text.trim();
    while rest.len() > bytes_max {
        let first_char_bytes = rest.chars().next().map_or(0, char::len_utf8);
        let end_max = char_boundary(rest, bytes_max).max(first_char_bytes);
        let end = ["\n\n", "\n", " "]
            .iter()
            // A separator that begins where the piece may end is as good as one in it.
            .find_map(|sep| rest[..char_boundary(rest, end_max + sep.len())].rfind(sep))
            .unwrap_or(end_max);
        let (piece, after) = rest.split_at(end);
        pieces.push(piece.trim_end());
        rest = after.trim_start();
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

/// The last place up to `at` where `text` can be parted.
fn char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

enum Tag {
    Opens,
    Closes,
    Empty,
}

/// The tag at the start of `text`, which starts with `<`, and its length in bytes. One that is cut
/// off reaches to the end.
fn internal_tag(text: &str) -> Option<(usize, Tag)> {
    let after = text.strip_prefix('<')?.trim_start();
    let (after, closes) = match after.strip_prefix('/') {
        Some(after) => (after.trim_start(), true),
        None => (after, false),
    };
    let (name, after) = after.split_at_checked(TAG.len())?;
    let is_name_over = |c: char| c.is_whitespace() || matches!(c, '>' | '/' | '<');
    if !name.eq_ignore_ascii_case(TAG) || !after.chars().next().is_none_or(is_name_over) {
        return None;
    }
    let attribute_bytes = after.find('>').unwrap_or(after.len());
    let (attributes, after) = after.split_at(attribute_bytes);
    let after = after.strip_prefix('>').unwrap_or(after);
    let tag = match (closes, attributes.ends_with('/')) {
        (true, _) => Tag::Closes,
        (false, true) => Tag::Empty,
        (false, false) => Tag::Opens,
    };
    Some((text.len() - after.len(), tag))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, said: &str) {
        assert_eq!(said, strip_internal(text), "{text:?}");
    }

    #[test]
    fn h55_internal_text_is_hidden() {
        check("a<internal>secret</internal>b", "ab");
        check(" <internal>secret</internal>\n answer ", "answer");
        check("<INTERNAL>s</Internal>a", "a");
        check("< internal kind='x' >s</ internal >a", "a");
        check("<internal\n>s</internal\n>a", "a");
        check("a<internal>s<internal>s</internal>s</internal>b", "ab");
        check("a<internal>1 < 2 <b>s</b></internal>b", "ab");
        check("<internal>é</internal>é", "é");
        check("a<internal/>b", "ab");
    }

    #[test]
    fn h55_what_is_not_closed_hides_the_rest() {
        check("a<internal>secret", "a");
        check("a<internal>s<internal>s</internal>s", "a");
        check("a<internal secret", "a");
        check("a<internal", "a");
        check("a<internal>s</internal", "a");
        check("a<internal>s</internals>s", "a");
    }

    #[test]
    fn other_text_is_left_alone() {
        check("", "");
        check("1 < 2 && 3 > 2", "1 < 2 && 3 > 2");
        check("<internals>a</internals><interna>b<é", "<internals>a</internals><interna>b<é");
        check("a</internal>b", "ab");
        check("internal> <", "internal> <");
    }

    #[test]
    fn replies_are_prefixed_unless_there_is_nothing_to_say() {
        assert_eq!(Some("Andy: hi".to_owned()), reply_text(" hi\n", "Andy", true));
        assert_eq!(Some("hi".to_owned()), reply_text("hi", "Andy", false));
        for empty in ["", " \n", "<internal>x</internal>", "<internal>x"] {
            assert_eq!(None, reply_text(empty, "Andy", true));
        }
    }

    #[test]
    fn long_texts_split_at_the_best_place() {
        let check = |text, bytes_max, pieces: &[&str]| {
            assert_eq!(pieces, split_text(text, bytes_max), "{text:?}");
        };
        check("", 5, &[]);
        check(" \n\n ", 1, &[]);
        check("short", 5, &["short"]);
        check("one\n\ntwo three", 10, &["one", "two three"]);
        check("one\n\ntwo\n\nthree", 10, &["one\n\ntwo", "three"]);
        check("one two\nthree", 10, &["one two", "three"]);
        check("one two three", 7, &["one two", "three"]);
        check("one two three", 6, &["one", "two", "three"]);
        check("abcdefg", 3, &["abc", "def", "g"]);
        check("éé", 3, &["é", "é"]);
        check("🙂🙂", 0, &["🙂", "🙂"]);
    }

    proptest! {
        #[test]
        fn h55_no_text_inside_survives(
            parts in prop::collection::vec((0_usize..3, "[^<]{0,8}", any::<bool>()), 0..20),
        ) {
            let mut text = String::new();
            let mut outside = String::new();
            for (depth, said, is_plain) in &parts {
                let (opens, closes) = if *is_plain {
                    ("<internal>", "</internal>")
                } else {
                    ("< INTERNAL a='/'>", "</ Internal\n>")
                };
                let element = [&opens.repeat(*depth), said, &closes.repeat(*depth)];
                text.extend(element.map(String::as_str));
                if *depth == 0 {
                    outside.push_str(said);
                }
            }
            prop_assert_eq!(outside.trim(), strip_internal(&text));
        }

        #[test]
        fn h55_a_secret_after_the_tag_is_hidden(
            before in "[^<]{0,20}", secret in "[^<]{0,20}", after in "[^<]{0,20}",
        ) {
            let open = strip_internal(&format!("{before}<internal>{secret}"));
            prop_assert_eq!(before.trim(), open);
            let closed = strip_internal(&format!("{before}<internal>{secret}</internal>{after}"));
            let outside = format!("{before}{after}");
            prop_assert_eq!(outside.trim(), closed);
        }

        #[test]
        fn pieces_are_bounded_and_together_all_of_it(text in "[a-cé🙂 \n]{0,200}", bytes_max in 4_usize..60) {
            let pieces = split_text(&text, bytes_max);
            for piece in &pieces {
                prop_assert!(piece.len() <= bytes_max && !piece.trim().is_empty(), "{piece:?}");
            }
            let squeezed = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(squeezed(&text), squeezed(&pieces.concat()));
        }
    }
}
