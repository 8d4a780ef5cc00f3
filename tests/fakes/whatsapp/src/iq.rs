//! Questions of clients. What is asked about keys, users and groups is answered in files of their
//! own; here is what is left, and who gets what.

use wacore_binary::Node;

use crate::link::LinkId;
use crate::state::{Address, State, now_seconds};
use crate::xml::{self, attr, child, children, el, is, jid, server_jid};

/// Seconds for which what media servers are told remains valid.
const MEDIA_VALID_SECONDS: u32 = 3600;

impl State {
    pub(crate) fn on_iq(&mut self, link: LinkId, from: Address, iq: &Node) {
        if is(iq, "type", "result") || is(iq, "type", "error") {
            return; // We ask nothing of which the answer matters.
        }
        let namespace = attr(iq, "xmlns").unwrap_or_default();
        let first = children(iq).first().map_or("", |node| node.tag.as_ref());
        match (namespace.as_str(), first) {
            ("encrypt", _) => self.on_keys_iq(link, from, iq),
            ("usync", _) => self.on_usync_iq(link, iq),
            ("w:g2", _) => self.on_group_iq(link, from, iq),
            ("passive", "active") => {
                self.answer(link, iq, []);
                self.activate(from, link);
            }
            ("w:sync:app:state", _) => self.on_app_state_iq(link, iq),
            ("abt", _) => {
                let props = el("props")
                    .attr("protocol", "1")
                    .attr("ab_key", "x")
                    .attr("hash", "h")
                    .attr("refresh", "86400")
                    .attr("refresh_id", "1");
                self.answer(link, iq, [props.build()]);
            }
            ("blocklist", _) => self.answer(link, iq, [el("list").attr("dhash", "0").build()]),
            ("privacy", "privacy") => {
                let category =
                    |name: &str| el("category").attr("name", name).attr("value", "all").build();
                let all = [category("readreceipts"), category("last")];
                self.answer(link, iq, [el("privacy").children(all).build()]);
            }
            ("w:m", "media_conn") => self.on_media_iq(link, iq),
            ("md", "remove-companion-device") => self.on_unlink_iq(link, from, iq),
            // Pings, tokens and whatever else wants no more than an answer.
            _ => self.answer(link, iq, []),
        }
    }

    /// Answers a question.
    pub(crate) fn answer(
        &mut self,
        link: LinkId,
        iq: &Node,
        content: impl IntoIterator<Item = Node>,
    ) {
        let content: Vec<Node> = content.into_iter().collect();
        let mut answer = el("iq")
            .attr("from", jid(iq, "to").unwrap_or_else(server_jid))
            .attr("type", "result")
            .attr("id", attr(iq, "id").unwrap_or_default())
            .attr("t", now_seconds());
        if !content.is_empty() {
            answer = answer.children(content);
        }
        self.send(link, answer.build());
    }

    /// Answers that it cannot be.
    pub(crate) fn answer_error(&mut self, link: LinkId, iq: &Node, code: u16, text: &str) {
        let error = el("error").attr("code", code).attr("text", text).build();
        let answer = el("iq")
            .attr("from", jid(iq, "to").unwrap_or_else(server_jid))
            .attr("type", "error")
            .attr("id", attr(iq, "id").unwrap_or_default())
            .children([error]);
        self.send(link, answer.build());
    }

    /// Settings that devices of an account share; there are none, and all versions are current.
    fn on_app_state_iq(&mut self, link: LinkId, iq: &Node) {
        let asked = child(iq, "sync").map(children).unwrap_or_default();
        let current = asked.iter().filter(|node| node.tag == "collection").map(|node| {
            el("collection")
                .attr("name", attr(node, "name").unwrap_or_default())
                .attr("type", "result")
                .attr("version", attr(node, "version").unwrap_or_else(|| "0".to_owned()))
                .build()
        });
        let synced = el("sync").children(current).build();
        self.answer(link, iq, [synced]);
    }

    fn on_media_iq(&mut self, link: LinkId, iq: &Node) {
        let host =
            el("host").attr("hostname", self.blob_host.as_str()).attr("type", "primary").build();
        let connection = el("media_conn")
            .attr("auth", "fake")
            .attr("ttl", MEDIA_VALID_SECONDS)
            .attr("auth_ttl", MEDIA_VALID_SECONDS)
            .attr("max_buckets", "12")
            .children([host]);
        self.answer(link, iq, [connection.build()]);
    }

    /// A companion takes itself (or another) off the account.
    fn on_unlink_iq(&mut self, link: LinkId, from: Address, iq: &Node) {
        let named = child(iq, "remove-companion-device").and_then(|node| jid(node, "jid"));
        let device = named.and_then(|jid| self.find(&jid)).unwrap_or(from);
        self.answer(link, iq, []);
        if device.user == from.user && self.companion(device).is_some() {
            self.unlink(device);
        } else {
            self.journal.note(format!("?? cannot be unlinked: {}", xml::show(iq)));
        }
    }
}
