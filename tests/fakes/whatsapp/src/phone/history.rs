//! What a phone sends to a device that was just linked: the key of shared settings, and history.

use std::io::Write as _;

use buffa::{Enumeration as _, Message as _};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use rand::RngExt as _;
use wacore::download::MediaType;
use wacore::messages::MessageUtils;
use wacore::upload::encrypt_media;
use waproto::whatsapp as wa;
use waproto::whatsapp::message::protocol_message::Type;
use waproto::whatsapp::message::{
    AppStateSyncKey, AppStateSyncKeyData, AppStateSyncKeyFingerprint, AppStateSyncKeyId,
    AppStateSyncKeyShare, HistorySyncNotification, HistorySyncType, ProtocolMessage,
};

use crate::server::Server;
use crate::state::{Address, Addressing, State, now_seconds};

/// One chunk of history.
#[derive(Clone)]
pub(crate) struct Chunk {
    history: wa::HistorySync,
    is_inline: bool,
}

impl Server {
    /// Devices that are linked to this account from now on get this piece of its history, in the
    /// message itself or (as real phones do with large ones) as a blob to be fetched.
    pub fn history(&self, number: &str, history: wa::HistorySync, is_inline: bool) {
        self.shared().change(|state| {
            let user = state.user_by_number(number);
            state.users[user].phone.history.push(Chunk { history, is_inline });
        });
    }
}

impl State {
    /// A device has published its keys; where it is new, the phone begins to speak to it.
    pub(crate) fn phone_greets(&mut self, device: Address) {
        let Some(companion) = self.companion_mut(device) else { return };
        if std::mem::replace(&mut companion.is_greeted, true) {
            return;
        }
        let share = ProtocolMessage {
            r#type: Some(Type::APP_STATE_SYNC_KEY_SHARE),
            app_state_sync_key_share: app_state_key(device).into(),
            ..ProtocolMessage::default()
        };
        self.tell_companion(device, share);
        for (order, chunk) in self.users[device.user].phone.history.clone().iter().enumerate() {
            let notification = self.history_notification(order, chunk);
            let message = ProtocolMessage {
                r#type: Some(Type::HISTORY_SYNC_NOTIFICATION),
                history_sync_notification: notification.into(),
                ..ProtocolMessage::default()
            };
            self.tell_companion(device, message);
        }
    }

    /// Sends what devices of one account tell each other.
    fn tell_companion(&mut self, device: Address, what: ProtocolMessage) {
        let message = wa::Message { protocol_message: what.into(), ..wa::Message::default() };
        let own = Address { device: 0, ..device };
        let plain = MessageUtils::encode_and_pad(&message);
        let Some(part) = self.sealed_for(own.user, device, &plain, None) else { return };
        let id = self.next_message_id();
        let stanza =
            self.said(own, self.jid(own, Addressing::Pn), &id, &message).attr("category", "peer");
        self.deliver_message(device, stanza, &[part]);
    }

    fn history_notification(&mut self, order: usize, chunk: &Chunk) -> HistorySyncNotification {
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&chunk.history.encode_to_vec()).expect("a vector takes all");
        let packed = packed.finish().expect("a vector takes all");
        let mut notification = HistorySyncNotification {
            sync_type: HistorySyncType::from_i32(chunk.history.sync_type.to_i32()),
            chunk_order: Some(u32::try_from(order).unwrap_or(u32::MAX) + 1),
            progress: Some(100),
            ..HistorySyncNotification::default()
        };
        if chunk.is_inline {
            notification.initial_hist_bootstrap_inline_payload = Some(packed);
            return notification;
        }
        let sealed = encrypt_media(&packed, MediaType::History).expect("any bytes can be sealed");
        let path = format!("/v/history-{}", self.next_id());
        notification.file_length = Some(packed.len() as u64);
        notification.file_sha256 = Some(sealed.file_sha256.to_vec());
        notification.file_enc_sha256 = Some(sealed.file_enc_sha256.to_vec());
        notification.media_key = Some(sealed.media_key.to_vec());
        notification.direct_path = Some(path.clone());
        self.blobs.insert(path, sealed.data_to_upload);
        notification
    }
}

/// The key with which devices of an account seal the settings that they share.
fn app_state_key(device: Address) -> AppStateSyncKeyShare {
    let mut id = vec![0, 0, 0, 0];
    id.extend(device.device.to_be_bytes());
    let data = AppStateSyncKeyData {
        key_data: Some(rand::rng().random::<[u8; 32]>().to_vec()),
        fingerprint: AppStateSyncKeyFingerprint {
            raw_id: Some(1),
            current_index: Some(u32::from(device.device)),
            device_indexes: vec![0, u32::from(device.device)],
        }
        .into(),
        timestamp: i64::try_from(now_seconds() * 1000).ok(),
    };
    AppStateSyncKeyShare {
        keys: vec![AppStateSyncKey {
            key_id: AppStateSyncKeyId { key_id: Some(id) }.into(),
            key_data: data.into(),
        }],
    }
}
