//! What is known of users: their devices, their other name, whether a number has an account.

use buffa::Message as _;
use wacore_binary::{Jid, Node};
use waproto::whatsapp as wa;

use crate::link::LinkId;
use crate::noise::sign;
use crate::state::{Addressing, State, User};
use crate::xml::{attr, child, children, content_of, el, jid};

/// First bytes of what the phone signs to list its companions.
const DEVICE_LIST_SIGNATURE: [u8; 2] = [6, 2];

impl State {
    pub(crate) fn on_usync_iq(&mut self, link: LinkId, iq: &Node) {
        let Some(question) = child(iq, "usync") else {
            return self.answer_error(link, iq, 400, "bad-request");
        };
        let protocols = child(question, "query").map(children).unwrap_or_default();
        let asked = child(question, "list").map(children).unwrap_or_default();
        let users: Vec<Node> =
            asked.iter().filter_map(|user| self.user_facts(user, protocols)).collect();
        let result: Vec<Node> = protocols.iter().map(el_like).collect();
        let answer = el("usync")
            .attr("sid", attr(question, "sid").unwrap_or_default())
            .attr("index", "0")
            .attr("last", "true")
            .attr("mode", attr(question, "mode").unwrap_or_default())
            .attr("context", attr(question, "context").unwrap_or_default())
            .children([el("result").children(result).build(), el("list").children(users).build()]);
        self.answer(link, iq, [answer.build()]);
    }

    /// The facts about one user that the protocols ask for; nothing where a JID is unknown.
    fn user_facts(&self, asked: &Node, protocols: &[Node]) -> Option<Node> {
        let number = content_of(asked, "contact").map(|text| {
            let digits = text.iter().copied().filter(u8::is_ascii_digit).map(char::from);
            Jid::pn(digits.collect::<String>())
        });
        let named = jid(asked, "jid").or_else(|| number.clone())?;
        let Some(address) = self.find(&named) else {
            // A number may be asked for that has no account; a JID that is unknown is left out.
            let contact = el("contact").attr("type", "out").build();
            return number.map(|jid| el("user").attr("jid", jid).children([contact]).build());
        };
        let user = &self.users[address.user];
        let facts = protocols.iter().filter_map(|protocol| match protocol.tag.as_ref() {
            "devices" => Some(user.device_facts()),
            "lid" => Some(el("lid").attr("val", Jid::lid(user.lid.as_str())).build()),
            "contact" => Some(el("contact").attr("type", "in").build()),
            _ => None,
        });
        let by = Addressing::of(&named);
        let bare = self.jid(crate::state::Address { device: 0, ..address }, by);
        Some(el("user").attr("jid", bare).children(facts).build())
    }
}

fn el_like(node: &Node) -> Node {
    Node::new(node.tag.clone(), wacore_binary::Attrs::new(), None)
}

impl User {
    fn device_facts(&self) -> Node {
        let phone = el("device").attr("id", "0").build();
        let companions = self.companions.iter().map(|(number, companion)| {
            el("device").attr("id", *number).attr("key-index", companion.key_index).build()
        });
        let list = el("device-list").children(std::iter::once(phone).chain(companions)).build();
        el("devices").children([list, self.key_index_list()]).build()
    }

    /// Companions that are to be believed, signed by the phone.
    pub(crate) fn key_index_list(&self) -> Node {
        let details = wa::ADVKeyIndexList {
            raw_id: Some(self.raw_id()),
            timestamp: Some(self.changed_at()),
            current_index: Some(u32::from(self.companion_last)),
            valid_indexes: self.companions.values().map(|companion| companion.key_index).collect(),
            account_type: Some(wa::ADVEncryptionType::E2EE),
        }
        .encode_to_vec();
        let signed = [&DEVICE_LIST_SIGNATURE, details.as_slice()].concat();
        let signature = sign(self.phone.identity(), &signed);
        let list = wa::ADVSignedKeyIndexList {
            details: Some(details),
            account_signature: Some(signature),
            ..wa::ADVSignedKeyIndexList::default()
        };
        el("key-index-list").attr("ts", self.changed_at()).bytes(list.encode_to_vec()).build()
    }

    /// Number of the account in signed lists; anything that stays the same.
    pub(crate) fn raw_id(&self) -> u32 {
        self.lid.bytes().map(u32::from).sum()
    }

    /// When its devices last changed, in seconds; grows with each change, however soon it comes.
    pub(crate) fn changed_at(&self) -> u64 {
        self.opened_at + self.devices_changed
    }
}
