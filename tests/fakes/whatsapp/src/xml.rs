//! Short ways to read and to show stanzas.

use std::fmt::Write as _;

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeContent};

/// Elements of a list that are shown in a trace; the rest is counted.
const SHOWN_MAX: usize = 6;

/// Who the server itself is in a stanza.
pub(crate) fn server_jid() -> Jid {
    Jid::pn("")
}

/// Begins a stanza or an element of one.
pub(crate) fn el(tag: &'static str) -> NodeBuilder {
    NodeBuilder::new(tag)
}

/// An attribute as text.
pub(crate) fn attr(node: &Node, key: &str) -> Option<String> {
    node.attrs.get(key).map(|value| value.as_str().into_owned())
}

/// An attribute as the name of a user, device or group.
pub(crate) fn jid(node: &Node, key: &str) -> Option<Jid> {
    node.attrs.get(key).and_then(wacore_binary::NodeValue::to_jid)
}

/// Whether an attribute has this value.
pub(crate) fn is(node: &Node, key: &str, value: &str) -> bool {
    node.attrs.get(key).is_some_and(|found| found == value)
}

/// The elements in an element.
pub(crate) fn children(node: &Node) -> &[Node] {
    node.children().unwrap_or_default()
}

/// The first element of that name.
pub(crate) fn child<'a>(node: &'a Node, tag: &str) -> Option<&'a Node> {
    node.get_optional_child(tag)
}

/// What an element holds where that is not elements.
pub(crate) fn content(node: &Node) -> Option<&[u8]> {
    match node.content.as_ref()? {
        NodeContent::Bytes(bytes) => Some(bytes),
        NodeContent::String(text) => Some(text.as_bytes()),
        NodeContent::Nodes(_) => None,
    }
}

/// What the first element of that name holds.
pub(crate) fn content_of<'a>(node: &'a Node, tag: &str) -> Option<&'a [u8]> {
    child(node, tag).and_then(content)
}

/// One line for a person: bytes by length and start, long lists cut.
pub(crate) fn show(node: &Node) -> String {
    let mut line = String::new();
    write_node(&mut line, node);
    line
}

fn write_node(line: &mut String, node: &Node) {
    line.push('<');
    line.push_str(&node.tag);
    for (key, value) in &node.attrs {
        write!(line, " {key}=\"{value}\"").expect("a string takes all");
    }
    match &node.content {
        None => return line.push_str("/>"),
        Some(NodeContent::Bytes(bytes)) => {
            write!(line, ">[{}B ", bytes.len()).expect("a string takes all");
            for byte in bytes.iter().take(8) {
                write!(line, "{byte:02x}").expect("a string takes all");
            }
            line.push(']');
        }
        Some(NodeContent::String(text)) => write!(line, ">{text}").expect("a string takes all"),
        Some(NodeContent::Nodes(nodes)) => {
            line.push('>');
            for node in nodes.iter().take(SHOWN_MAX) {
                write_node(line, node);
            }
            if nodes.len() > SHOWN_MAX {
                write!(line, "…{} more", nodes.len() - SHOWN_MAX).expect("a string takes all");
            }
        }
    }
    write!(line, "</{}>", node.tag).expect("a string takes all");
}
