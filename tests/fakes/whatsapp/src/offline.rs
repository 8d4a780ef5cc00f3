//! What waits for a device: everything that it has not confirmed is sent again at its next login.

use wacore_binary::Node;

use crate::link::LinkId;
use crate::state::{Address, State};
use crate::xml::{attr, el, server_jid};

impl State {
    /// Sends a stanza to a device, now or when it is there again, until it is confirmed.
    pub(crate) fn deliver(&mut self, to: Address, node: Node) {
        if to.device == 0 {
            return self.phone_hears(to.user, &node);
        }
        let Some(companion) = self.companion_mut(to) else { return };
        companion.queue.push_back(node.clone());
        if companion.is_active
            && let Some(link) = companion.link
        {
            self.send(link, node);
        }
    }

    /// A device asks for what waited for it.
    pub(crate) fn activate(&mut self, device: Address, link: LinkId) {
        let Some(companion) = self.companion_mut(device) else { return };
        companion.is_active = true;
        let waited: Vec<Node> = companion.queue.iter().cloned().collect();
        let count = waited.len();
        if count > 0 {
            let of_kind = |tag| waited.iter().filter(|node| node.tag == tag).count();
            let preview = el("offline_preview")
                .attr("count", count)
                .attr("message", of_kind("message"))
                .attr("receipt", of_kind("receipt"))
                .attr("notification", of_kind("notification"))
                .attr("appdata", 0)
                .attr("call", 0)
                .build();
            self.send(link, el("ib").attr("from", server_jid()).children([preview]).build());
        }
        for mut node in waited {
            node.attrs.insert("offline", "1");
            self.send(link, node);
        }
        let end = el("offline").attr("count", count).build();
        self.send(link, el("ib").attr("from", server_jid()).children([end]).build());
    }

    /// A device has these stanzas of that kind.
    pub(crate) fn confirm(&mut self, device: Address, kind: &str, ids: &[String]) {
        let Some(companion) = self.companion_mut(device) else { return };
        companion.queue.retain(|node| {
            node.tag != kind || !attr(node, "id").is_some_and(|id| ids.contains(&id))
        });
    }
}
