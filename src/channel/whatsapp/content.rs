//! What a message says, as the text that an agent reads. Pure; whoever wrote the message chose
//! every byte of it.

use buffa::MessageField;
use waproto::whatsapp as wa;

use crate::limits::{WHATSAPP_NOTE_CHARS_MAX, WHATSAPP_QUOTE_CHARS_MAX, WHATSAPP_WRAPPERS_MAX};

/// What is worth storing of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// What was said; never blank.
    pub(super) text: String,
    /// Addresses of who is mentioned in it, as they came.
    pub(super) mentioned: Vec<String>,
}

/// What `message` says. `None`: nothing; a reaction, a vote, a key, a word among devices.
///
/// A caption or text comes first, so that a call at its beginning is one; then, in brackets, what
/// cannot be shown, and what it replies to.
pub(super) fn content(message: &wa::Message) -> Option<Content> {
    let Unwrapped { message, is_edited } = unwrap(message)?;
    let (said, note) = said(message)?;
    let context = context(message);
    let mut lines: Vec<String> = Vec::new();
    lines.extend(Some(said.trim()).filter(|said| !said.is_empty()).map(str::to_owned));
    lines.extend(note.map(|note| format!("[{note}]")));
    if lines.is_empty() {
        return None;
    }
    if is_edited {
        lines.push("[edited]".to_owned());
    }
    if let Some(quoted) = context.and_then(quoted) {
        lines.push(format!("[in reply to: {quoted}]"));
    }
    let mentioned = context.map(|context| context.mentioned_jid.clone()).unwrap_or_default();
    Some(Content { text: lines.join("\n"), mentioned })
}

struct Unwrapped<'a> {
    message: &'a wa::Message,
    is_edited: bool,
}

/// The message in its wrappers. `None`: somebody wraps without end.
fn unwrap(message: &wa::Message) -> Option<Unwrapped<'_>> {
    let mut found = Unwrapped { message, is_edited: false };
    for _ in 0..WHATSAPP_WRAPPERS_MAX {
        let message = found.message;
        let inside = [
            &message.ephemeral_message,
            &message.view_once_message,
            &message.view_once_message_v2,
            &message.view_once_message_v2_extension,
            &message.document_with_caption_message,
            &message.edited_message,
            &message.group_mentioned_message,
            &message.bot_invoke_message,
            &message.associated_child_message,
            &message.spoiler_message,
            &message.question_message,
            &message.question_reply_message,
            &message.lottie_sticker_message,
            &message.event_cover_image,
        ];
        let wrapped =
            inside.into_iter().find_map(|wrapper| wrapper.as_option()?.message.as_option());
        let sent = || message.device_sent_message.as_option()?.message.as_option();
        let edited = || message.protocol_message.as_option()?.edited_message.as_option();
        found = if let Some(message) = wrapped.or_else(sent) {
            let is_edited = found.is_edited || found.message.edited_message.is_set();
            Unwrapped { message, is_edited }
        } else if let Some(message) = edited() {
            Unwrapped { message, is_edited: true }
        } else {
            return Some(found);
        };
    }
    None
}

/// The words, and a note about what is not words.
fn said(message: &wa::Message) -> Option<(&str, Option<String>)> {
    if let Some(text) = &message.conversation {
        return Some((text, None));
    }
    if let Some(text) = message.extended_text_message.as_option() {
        return Some((text.text.as_deref()?, None));
    }
    if let Some(image) = message.image_message.as_option() {
        let note = file("image", [mime(image.mimetype.as_ref()), size(image.file_length)]);
        return Some((image.caption.as_deref().unwrap_or_default(), Some(note)));
    }
    let video = message.video_message.as_option();
    if let Some(video) = video.or(message.ptv_message.as_option()) {
        let note = file("video", [duration(video.seconds), size(video.file_length)]);
        return Some((video.caption.as_deref().unwrap_or_default(), Some(note)));
    }
    if let Some(document) = message.document_message.as_option() {
        let name = document.file_name.as_deref().or(document.title.as_deref());
        let facts = [name.map(quote), mime(document.mimetype.as_ref()), size(document.file_length)];
        let note = file("document", facts);
        return Some((document.caption.as_deref().unwrap_or_default(), Some(note)));
    }
    Some(("", Some(note(message)?)))
}

/// What stands for a message without words.
fn note(message: &wa::Message) -> Option<String> {
    if let Some(audio) = message.audio_message.as_option() {
        let kind = if audio.ptt == Some(true) { "voice message" } else { "audio" };
        return Some(file(kind, [duration(audio.seconds), size(audio.file_length)]));
    }
    if let Some(sticker) = message.sticker_message.as_option() {
        return Some(file("sticker", [size(sticker.file_length)]));
    }
    if let Some(place) = message.location_message.as_option() {
        let named = [&place.name, &place.address].map(|text| text.as_deref().map(quote));
        let at = degrees(place.degrees_latitude, place.degrees_longitude);
        return Some(listed("location", named.into_iter().chain([at])));
    }
    if let Some(place) = message.live_location_message.as_option() {
        let caption = place.caption.as_deref().map(quote);
        let at = degrees(place.degrees_latitude, place.degrees_longitude);
        return Some(listed("live location", [caption, at]));
    }
    if let Some(contact) = message.contact_message.as_option() {
        return Some(listed("contact", [contact.display_name.as_deref().map(quote)]));
    }
    if let Some(all) = message.contacts_array_message.as_option() {
        return Some(listed("contacts", [all.display_name.as_deref().map(quote)]));
    }
    if let Some(event) = message.event_message.as_option() {
        let told = [&event.name, &event.description].map(|text| text.as_deref().map(quote));
        return Some(listed("event", told));
    }
    let polls = [
        &message.poll_creation_message,
        &message.poll_creation_message_v2,
        &message.poll_creation_message_v3,
    ];
    let poll = polls.into_iter().find_map(MessageField::as_option)?;
    let options = poll.options.iter().map(|option| option.option_name.as_deref().map(quote));
    Some(listed("poll", [poll.name.as_deref().map(quote)].into_iter().chain(options)))
}

fn context(message: &wa::Message) -> Option<&wa::ContextInfo> {
    macro_rules! first {
        ($($field:ident)*) => {
            None $(.or_else(|| message.$field.as_option()?.context_info.as_option()))*
        };
    }
    first!(extended_text_message image_message video_message ptv_message document_message
           audio_message sticker_message location_message live_location_message contact_message
           contacts_array_message event_message poll_creation_message poll_creation_message_v2
           poll_creation_message_v3)
}

/// What a message replies to, shortened.
fn quoted(context: &wa::ContextInfo) -> Option<String> {
    let quoted = unwrap(context.quoted_message.as_option()?)?.message;
    let (text, note) = said(quoted)?;
    let text = text.trim();
    let note = note.map(|note| format!("[{note}]"));
    match (text.is_empty(), note) {
        (false, _) => Some(shortened(text, WHATSAPP_QUOTE_CHARS_MAX)),
        (true, note) => note,
    }
}

fn file<const N: usize>(kind: &str, facts: [Option<String>; N]) -> String {
    listed(kind, facts.into_iter().chain([Some("not shown here".to_owned())]))
}

fn listed(kind: &str, facts: impl IntoIterator<Item = Option<String>>) -> String {
    let mut all = kind.to_owned();
    for fact in facts.into_iter().flatten().take(FACTS_MAX) {
        all.push_str(", ");
        all.push_str(&fact);
    }
    all
}

/// `WhatsApp` offers twelve options of a poll.
const FACTS_MAX: usize = 16;

fn quote(text: &str) -> String {
    format!("“{}”", shortened(text.trim(), WHATSAPP_NOTE_CHARS_MAX))
}

fn mime(text: Option<&String>) -> Option<String> {
    text.map(|text| shortened(text, WHATSAPP_NOTE_CHARS_MAX))
}

fn shortened(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn size(bytes: Option<u64>) -> Option<String> {
    Some(match bytes? {
        bytes @ 0..1024 => format!("{bytes} bytes"),
        bytes @ 1024..1_048_576 => format!("{} KiB", bytes / 1024),
        bytes => format!("{} MiB", bytes / 1_048_576),
    })
}

fn duration(seconds: Option<u32>) -> Option<String> {
    seconds.map(|seconds| format!("{}:{:02} min", seconds / 60, seconds % 60))
}

fn degrees(latitude: Option<f64>, longitude: Option<f64>) -> Option<String> {
    Some(format!("{:.5} {:.5}", latitude?, longitude?))
}

#[cfg(test)]
mod tests {
    use buffa::MessageField as Field;

    use super::*;

    fn text(text: &str) -> wa::Message {
        wa::Message { conversation: Some(text.to_owned()), ..Default::default() }
    }

    fn wrapped(message: wa::Message) -> Field<wa::message::FutureProofMessage> {
        let message = Field::some(message);
        Field::some(wa::message::FutureProofMessage { message })
    }

    fn reply(said: &str, to: wa::Message) -> wa::Message {
        let context = wa::ContextInfo {
            quoted_message: Field::some(to),
            mentioned_jid: vec!["1@lid".to_owned()],
            ..Default::default()
        };
        let extended = wa::message::ExtendedTextMessage {
            text: Some(said.to_owned()),
            context_info: Field::some(context),
            ..Default::default()
        };
        wa::Message { extended_text_message: Field::some(extended), ..Default::default() }
    }

    fn image(caption: Option<&str>) -> wa::Message {
        let image = wa::message::ImageMessage {
            caption: caption.map(str::to_owned),
            mimetype: Some("image/jpeg".to_owned()),
            file_length: Some(123_456),
            ..Default::default()
        };
        wa::Message { image_message: Field::some(image), ..Default::default() }
    }

    fn check(message: &wa::Message, expected: Option<&str>) {
        assert_eq!(expected, content(message).as_ref().map(|content| content.text.as_str()));
    }

    #[test]
    fn h17_what_says_nothing_is_no_content() {
        let protocol = wa::message::ProtocolMessage::default();
        let reaction =
            wa::message::ReactionMessage { text: Some("👍".to_owned()), ..Default::default() };
        check(&wa::Message::default(), None);
        check(&text(" \n"), None);
        check(&wa::Message { protocol_message: Field::some(protocol), ..Default::default() }, None);
        check(&wa::Message { reaction_message: Field::some(reaction), ..Default::default() }, None);
    }

    #[test]
    fn h18_wrappers_are_opened() {
        check(&text(" hi "), Some("hi"));
        let ephemeral =
            wa::Message { ephemeral_message: wrapped(text("hi")), ..Default::default() };
        check(&ephemeral, Some("hi"));
        let once =
            wa::Message { view_once_message_v2: wrapped(ephemeral.clone()), ..Default::default() };
        check(&once, Some("hi"));
        let sent =
            wa::message::DeviceSentMessage { message: Field::some(once), ..Default::default() };
        let sent = wa::Message { device_sent_message: Field::some(sent), ..Default::default() };
        check(&sent, Some("hi"));
        let edit = wa::message::ProtocolMessage {
            edited_message: Field::some(ephemeral),
            ..Default::default()
        };
        let edit = wa::Message { protocol_message: Field::some(edit), ..Default::default() };
        check(&edit, Some("hi\n[edited]"));
        let edit = wa::Message { edited_message: wrapped(edit), ..Default::default() };
        check(&edit, Some("hi\n[edited]"));
    }

    #[test]
    fn a_wrap_without_end_is_nothing() {
        let mut message = text("hi");
        for _ in 0..1000 {
            message = wa::Message { ephemeral_message: wrapped(message), ..Default::default() };
        }
        check(&message, None);
        check(&reply("yes", message), Some("yes"));
    }

    #[test]
    fn replies_carry_what_they_reply_to() {
        let message = reply("@Andy yes", text("shall we?"));
        let content = content(&message).expect("it says something");
        assert_eq!("@Andy yes\n[in reply to: shall we?]", content.text);
        assert_eq!(["1@lid"], content.mentioned[..]);
        check(
            &reply("what?", image(None)),
            Some("what?\n[in reply to: [image, image/jpeg, 120 KiB, not shown here]]"),
        );
        let long = reply("so", text(&"é".repeat(5000)));
        let shown = super::content(&long).expect("it says something").text;
        assert_eq!(WHATSAPP_QUOTE_CHARS_MAX, shown.matches('é').count());
    }

    #[test]
    fn h75_media_is_named_with_type_and_size() {
        check(&image(None), Some("[image, image/jpeg, 120 KiB, not shown here]"));
        check(
            &image(Some("@Andy look")),
            Some("@Andy look\n[image, image/jpeg, 120 KiB, not shown here]"),
        );
        let audio = wa::message::AudioMessage {
            ptt: Some(true),
            seconds: Some(72),
            file_length: Some(900),
            ..Default::default()
        };
        let audio = wa::Message { audio_message: Field::some(audio), ..Default::default() };
        check(&audio, Some("[voice message, 1:12 min, 900 bytes, not shown here]"));
        let document = wa::message::DocumentMessage {
            file_name: Some("plan.pdf".to_owned()),
            mimetype: Some("application/pdf".to_owned()),
            file_length: Some(3 << 20),
            ..Default::default()
        };
        let document =
            wa::Message { document_message: Field::some(document), ..Default::default() };
        let captioned =
            wa::Message { document_with_caption_message: wrapped(document), ..Default::default() };
        check(&captioned, Some("[document, “plan.pdf”, application/pdf, 3 MiB, not shown here]"));
        let place = wa::message::LocationMessage {
            name: Some("Home".to_owned()),
            degrees_latitude: Some(52.5),
            degrees_longitude: Some(13.4),
            ..Default::default()
        };
        let place = wa::Message { location_message: Field::some(place), ..Default::default() };
        check(&place, Some("[location, “Home”, 52.50000 13.40000]"));
    }
}
