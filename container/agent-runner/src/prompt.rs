//! The host's form of a prompt, `<message sender="…" time="…">…</message>`, read back for people.

use rust_claw_protocol::TASK_HEAD;

/// One message of a prompt, unescaped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) sender: String,
    pub(crate) text: String,
}

/// The messages in `prompt`, oldest first; none where it has another form.
pub(crate) fn messages(prompt: &str) -> Vec<Said> {
    let mut messages = Vec::new();
    let mut rest = prompt;
    // A message's own text is escaped, so these are tags.
    while let Some((_, after)) = rest.split_once("<message ")
        && let Some((attributes, after)) = after.split_once('>')
        && let Some((text, after)) = after.split_once("</message>")
    {
        let sender =
            attributes.split_once("sender=\"").and_then(|(_, value)| value.split_once('"'));
        messages.push(Said {
            sender: unescaped(sender.map_or("", |(sender, _)| sender)),
            text: unescaped(text.trim()),
        });
        rest = after;
    }
    messages
}

/// What the last message of `prompt`, or a scheduled task, says; all of it, where it has another
/// form.
pub(crate) fn last_message(prompt: &str) -> String {
    let task = prompt.strip_prefix(TASK_HEAD).and_then(|task| task.split_once("\n\n"));
    if let Some((_, asked)) = task {
        return asked.trim().to_owned();
    }
    messages(prompt).pop().map_or_else(|| prompt.trim().to_owned(), |said| said.text)
}

fn unescaped(text: &str) -> String {
    // `&amp;` last, so that an escaped escape stays one.
    [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ]
    .into_iter()
    .fold(text.to_owned(), |text, (escaped, c)| text.replace(escaped, c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_says_what_follows_its_head() {
        let prompt = format!("{TASK_HEAD}\nNow: noon\n\ndo it\n\nwell\n");
        assert_eq!("do it\n\nwell", last_message(&prompt));
    }

    #[test]
    fn messages_are_unescaped_once() {
        let prompt = "<context timezone=\"UTC\" />\n<messages>\n<message sender=\"A\" \
                      time=\"1\">old</message>\n<message sender=\"B &amp; C\" time=\"2\">1 &lt; 2 \
                      &amp;lt;</message>\n</messages>";
        let said = |sender: &str, text: &str| Said { sender: sender.into(), text: text.into() };
        assert_eq!(vec![said("A", "old"), said("B & C", "1 < 2 &lt;")], messages(prompt));
        assert_eq!("1 < 2 &lt;", last_message(prompt));
    }

    #[test]
    fn another_form_is_taken_as_it_is() {
        for prompt in ["plain", "<message sender=\"A\">cut", "<message ", "<message >"] {
            assert!(messages(prompt).is_empty(), "{prompt}");
            assert_eq!(prompt.trim(), last_message(prompt));
        }
    }
}
