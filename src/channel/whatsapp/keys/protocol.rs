//! Who is who, who has which key of ours, what we sent, and what came and is not yet ours.

use async_trait::async_trait;
use wacore::store::error::Result;
use wacore::store::traits::{
    DeviceListRecord, LidPnMappingEntry, PendingInboundKey, PendingInboundRow, ProtocolStore,
    TcTokenEntry,
};
use wacore::time::now_secs;

use super::Keys;
use super::table::{ALL, Json, Table, pair};
use crate::limits::WHATSAPP_SENT_KEPT;

/// In the scope of its group: device → whether it has our sender key.
const SENDER_KEY_DEVICE: &str = "sender_key_device";
/// LID → the mapping.
const LID: &str = "lid";
/// Phone number → LID.
const PHONE: &str = "phone";
/// In the scope of its address, by message.
const BASE_KEY: &str = "base_key";
const DEVICES: &str = "devices";
const GROUP: &str = "group";
/// A token of a trusted contact.
const TOKEN: &str = "token";
/// In the scope of its chat, by message: what the other side may ask for again.
const SENT: &str = "sent";
/// In the scope of its chat: decrypted, but not yet stored by us.
const PENDING: &str = "pending";

fn put_mapping(table: &Table<'_>, entry: &LidPnMappingEntry) -> rusqlite::Result<()> {
    // The number that the LID had before must not lead to it any more.
    let known: Option<Json<LidPnMappingEntry>> = table.get(LID, ALL, &entry.lid)?;
    if let Some(Json(known)) = known
        && known.phone_number != entry.phone_number
        && table.get::<Vec<u8>>(PHONE, ALL, &known.phone_number)?.as_deref()
            == Some(entry.lid.as_bytes())
    {
        table.delete(PHONE, ALL, &known.phone_number)?;
    }
    table.put((PHONE, ALL), &entry.phone_number, entry.lid.as_bytes(), 0)?;
    table.put((LID, ALL), &entry.lid, Json(entry), 0)
}

fn put_devices(table: &Table<'_>, record: &DeviceListRecord) -> rusqlite::Result<()> {
    table.put((DEVICES, ALL), &record.user, Json(record), 0)
}

fn put_token(table: &Table<'_>, jid: &str, entry: &TcTokenEntry) -> rusqlite::Result<()> {
    table.put((TOKEN, ALL), jid, Json(entry), 0)
}

fn token(table: &Table<'_>, jid: &str) -> rusqlite::Result<Option<TcTokenEntry>> {
    Ok(table.get(TOKEN, ALL, jid)?.map(|Json(entry)| entry))
}

fn text(key: Vec<u8>) -> String {
    String::from_utf8(key).unwrap_or_default()
}

#[async_trait]
impl ProtocolStore for Keys {
    async fn get_sender_key_devices(&self, group_jid: &str) -> Result<Vec<(String, bool)>> {
        let all = self.read(|table| table.list::<Json<bool>>(SENDER_KEY_DEVICE, group_jid))?;
        Ok(all.into_iter().map(|(device, Json(has_key))| (text(device), has_key)).collect())
    }

    async fn set_sender_key_status(&self, group_jid: &str, entries: &[(&str, bool)]) -> Result<()> {
        self.write(|table| {
            entries.iter().try_for_each(|(device, has_key)| {
                table.put((SENDER_KEY_DEVICE, group_jid), device, Json(has_key), 0)
            })
        })
    }

    async fn clear_sender_key_devices(&self, group_jid: &str) -> Result<()> {
        self.write(|table| table.delete_scope(SENDER_KEY_DEVICE, group_jid))
    }

    async fn delete_sender_key_device_rows(&self, device_jids: &[&str]) -> Result<()> {
        let sql = "DELETE FROM entry WHERE kind = ? AND key = ?";
        self.write(|table| {
            let mut statement = table.0.prepare_cached(sql)?;
            device_jids.iter().try_for_each(|device| {
                statement.execute((SENDER_KEY_DEVICE, device.as_bytes())).map(drop)
            })
        })
    }

    async fn clear_all_sender_key_devices(&self) -> Result<()> {
        let sql = "DELETE FROM entry WHERE kind = ?";
        self.write(|table| table.0.prepare_cached(sql)?.execute([SENDER_KEY_DEVICE]).map(drop))
    }

    async fn get_lid_mapping(&self, lid: &str) -> Result<Option<LidPnMappingEntry>> {
        Ok(self.read(|table| table.get(LID, ALL, lid))?.map(|Json(entry)| entry))
    }

    async fn get_pn_mapping(&self, phone: &str) -> Result<Option<LidPnMappingEntry>> {
        self.read(|table| {
            let Some(lid) = table.get::<Vec<u8>>(PHONE, ALL, phone)? else { return Ok(None) };
            Ok(table.get(LID, ALL, lid)?.map(|Json(entry)| entry))
        })
    }

    async fn put_lid_mapping(&self, entry: &LidPnMappingEntry) -> Result<()> {
        self.note(|table| put_mapping(table, entry))
    }

    async fn put_lid_mappings(&self, entries: &[LidPnMappingEntry]) -> Result<()> {
        self.note(|table| entries.iter().try_for_each(|entry| put_mapping(table, entry)))
    }

    async fn get_all_lid_mappings(&self) -> Result<Vec<LidPnMappingEntry>> {
        let all = self.read(|table| table.list(LID, ALL))?;
        Ok(all.into_iter().map(|(_, Json(entry))| entry).collect())
    }

    async fn save_base_key(&self, address: &str, message_id: &str, base_key: &[u8]) -> Result<()> {
        self.note(|table| table.put((BASE_KEY, address), message_id, base_key, 0))
    }

    async fn has_same_base_key(
        &self,
        address: &str,
        message_id: &str,
        current_base_key: &[u8],
    ) -> Result<bool> {
        let saved: Option<Vec<u8>> = self.read(|table| table.get(BASE_KEY, address, message_id))?;
        Ok(saved.as_deref() == Some(current_base_key))
    }

    async fn delete_base_key(&self, address: &str, message_id: &str) -> Result<()> {
        self.note(|table| table.delete(BASE_KEY, address, message_id))
    }

    async fn update_device_list(&self, record: DeviceListRecord) -> Result<()> {
        self.note(|table| put_devices(table, &record))
    }

    async fn update_device_lists(&self, records: Vec<DeviceListRecord>) -> Result<()> {
        self.note(|table| records.iter().try_for_each(|record| put_devices(table, record)))
    }

    async fn get_devices(&self, user: &str) -> Result<Option<DeviceListRecord>> {
        Ok(self.read(|table| table.get(DEVICES, ALL, user))?.map(|Json(record)| record))
    }

    async fn delete_devices(&self, user: &str) -> Result<()> {
        self.note(|table| table.delete(DEVICES, ALL, user))
    }

    async fn get_group_metadata(&self, group_jid: &str) -> Result<Option<Vec<u8>>> {
        self.read(|table| table.get(GROUP, ALL, group_jid))
    }

    async fn put_group_metadata(&self, group_jid: &str, blob: &[u8]) -> Result<()> {
        self.note(|table| table.put((GROUP, ALL), group_jid, blob, 0))
    }

    async fn delete_group_metadata(&self, group_jid: &str) -> Result<()> {
        self.note(|table| table.delete(GROUP, ALL, group_jid))
    }

    async fn get_tc_token(&self, jid: &str) -> Result<Option<TcTokenEntry>> {
        self.read(|table| token(table, jid))
    }

    async fn put_tc_token(&self, jid: &str, entry: &TcTokenEntry) -> Result<()> {
        self.note(|table| put_token(table, jid, entry))
    }

    async fn delete_tc_token(&self, jid: &str) -> Result<()> {
        self.note(|table| table.delete(TOKEN, ALL, jid))
    }

    async fn get_all_tc_token_jids(&self) -> Result<Vec<String>> {
        let all = self.read(|table| table.list::<Vec<u8>>(TOKEN, ALL))?;
        Ok(all.into_iter().map(|(jid, _)| text(jid)).collect())
    }

    async fn delete_expired_tc_tokens(&self, token_cutoff: i64, sender_cutoff: i64) -> Result<u32> {
        self.note(|table| {
            let mut count = 0;
            for (jid, Json(entry)) in table.list::<Json<TcTokenEntry>>(TOKEN, ALL)? {
                let token_lives = !entry.token.is_empty() && token_cutoff <= entry.token_timestamp;
                let sender_lives = entry.sender_timestamp.is_some_and(|at| sender_cutoff <= at);
                if !token_lives && !sender_lives {
                    table.delete(TOKEN, ALL, jid)?;
                    count += 1;
                }
            }
            Ok(count)
        })
    }

    async fn touch_tc_token_sender_timestamp(
        &self,
        jid: &str,
        sender_timestamp: i64,
    ) -> Result<()> {
        self.note(|table| {
            let known = token(table, jid)?;
            let mut entry = known.unwrap_or_else(|| TcTokenEntry {
                token: Vec::new(),
                token_timestamp: sender_timestamp,
                sender_timestamp: None,
            });
            entry.sender_timestamp = entry.sender_timestamp.max(Some(sender_timestamp));
            put_token(table, jid, &entry)
        })
    }

    async fn store_received_tc_token(
        &self,
        jid: &str,
        received: &[u8],
        token_timestamp: i64,
    ) -> Result<()> {
        self.note(|table| {
            let known = token(table, jid)?;
            let is_older = |known: &TcTokenEntry| {
                !known.token.is_empty() && token_timestamp < known.token_timestamp
            };
            if known.as_ref().is_some_and(is_older) {
                return Ok(());
            }
            let sender_timestamp = known.and_then(|known| known.sender_timestamp);
            let entry =
                TcTokenEntry { token: received.to_vec(), token_timestamp, sender_timestamp };
            put_token(table, jid, &entry)
        })
    }

    async fn store_sent_message(
        &self,
        chat_jid: &str,
        message_id: &str,
        payload: &[u8],
    ) -> Result<()> {
        self.note(|table| table.put((SENT, chat_jid), message_id, payload, now_secs()))
    }

    async fn take_sent_message(&self, chat_jid: &str, message_id: &str) -> Result<Option<Vec<u8>>> {
        self.note(|table| {
            let payload = table.get(SENT, chat_jid, message_id)?;
            table.delete(SENT, chat_jid, message_id)?;
            Ok(payload)
        })
    }

    async fn delete_expired_sent_messages(&self, cutoff_timestamp: i64) -> Result<u32> {
        // A phone that was off asks when it is on again; the library would not wait for it.
        let kept_s = i64::try_from(WHATSAPP_SENT_KEPT.as_secs()).unwrap_or(i64::MAX);
        let cutoff = cutoff_timestamp.min(now_secs().saturating_sub(kept_s));
        self.note(|table| table.delete_older(SENT, cutoff))
    }

    async fn store_pending_inbound(
        &self,
        chat: &str,
        sender: &str,
        id: &str,
        message: &[u8],
    ) -> Result<()> {
        self.store_pending_inbound_batch(&[PendingInboundRow { chat, sender, id, message }]).await
    }

    async fn store_pending_inbound_batch(&self, rows: &[PendingInboundRow<'_>]) -> Result<()> {
        let kept = self.note(|table| {
            rows.iter().try_for_each(|row| {
                let key = pair(row.sender, row.id);
                table.put((PENDING, row.chat), key, row.message, now_secs())
            })
        });
        // The library goes on, and would acknowledge the message when it comes again.
        kept.inspect_err(|_| self.spend())
    }

    async fn get_pending_inbound(
        &self,
        chat: &str,
        sender: &str,
        id: &str,
    ) -> Result<Option<Vec<u8>>> {
        self.read(|table| table.get(PENDING, chat, pair(sender, id)))
    }

    async fn delete_pending_inbound(&self, chat: &str, sender: &str, id: &str) -> Result<()> {
        self.delete_pending_inbound_batch(&[PendingInboundKey { chat, sender, id }]).await
    }

    async fn delete_pending_inbound_batch(&self, keys: &[PendingInboundKey<'_>]) -> Result<()> {
        self.note(|table| {
            keys.iter()
                .try_for_each(|key| table.delete(PENDING, key.chat, pair(key.sender, key.id)))
        })
    }

    async fn delete_expired_pending_inbound(&self, cutoff_timestamp: i64) -> Result<u32> {
        self.note(|table| table.delete_older(PENDING, cutoff_timestamp))
    }
}
