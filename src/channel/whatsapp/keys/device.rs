//! The device itself, the state of its app settings, and the secrets of single messages.

use async_trait::async_trait;
use rusqlite::params;
use wacore::appstate::hash::HashState;
use wacore::appstate::processor::AppStateMutationMAC;
use wacore::store::Device;
use wacore::store::error::Result;
use wacore::store::traits::{
    AppStateSyncKey, AppSyncStore, DeviceStore, MessageSecret, MsgSecretEntry, MsgSecretStore,
    merge_msg_secret_expiry, merge_msg_secret_message_ts,
};

use super::Keys;
use super::table::{ALL, Json, pair};

/// The one entry of these two has an empty key.
const DEVICE: &str = "device";
const LATEST_SYNC_KEY: &str = "latest_sync_key";
const SYNC_KEY: &str = "sync_key";
const COLLECTION: &str = "collection";
/// In the scope of its collection.
const MUTATION: &str = "mutation";
/// In the scope of its chat.
const SECRET: &str = "secret";

/// There is one device.
const DEVICE_ID: i32 = 1;

#[async_trait]
impl DeviceStore for Keys {
    async fn save(&self, device: &Device) -> Result<()> {
        self.write(|table| table.put((DEVICE, ALL), "", Json(device), 0))
    }

    async fn load(&self) -> Result<Option<Device>> {
        let device: Option<Json<Device>> = self.read(|table| table.get(DEVICE, ALL, ""))?;
        Ok(device.map(|Json(device)| device))
    }

    async fn exists(&self) -> Result<bool> {
        Ok(self.read(|table| table.get::<Vec<u8>>(DEVICE, ALL, ""))?.is_some())
    }

    async fn create(&self) -> Result<i32> {
        self.save(&Device::new()).await?;
        Ok(DEVICE_ID)
    }
}

#[async_trait]
impl AppSyncStore for Keys {
    async fn get_sync_key(&self, key_id: &[u8]) -> Result<Option<AppStateSyncKey>> {
        let key: Option<Json<AppStateSyncKey>> =
            self.read(|table| table.get(SYNC_KEY, ALL, key_id))?;
        Ok(key.map(|Json(key)| key))
    }

    async fn set_sync_key(&self, key_id: &[u8], key: AppStateSyncKey) -> Result<()> {
        self.write(|table| {
            table.put((SYNC_KEY, ALL), key_id, Json(key), 0)?;
            table.put((LATEST_SYNC_KEY, ALL), "", key_id, 0)
        })
    }

    async fn get_latest_sync_key_id(&self) -> Result<Option<Vec<u8>>> {
        self.read(|table| table.get(LATEST_SYNC_KEY, ALL, ""))
    }

    async fn get_version(&self, name: &str) -> Result<HashState> {
        let state: Option<Json<HashState>> = self.read(|table| table.get(COLLECTION, ALL, name))?;
        Ok(state.map_or_else(HashState::default, |Json(state)| state))
    }

    async fn set_version(&self, name: &str, state: HashState) -> Result<()> {
        self.write(|table| table.put((COLLECTION, ALL), name, Json(state), 0))
    }

    async fn put_mutation_macs(
        &self,
        name: &str,
        _version: u64,
        mutations: &[AppStateMutationMAC],
    ) -> Result<()> {
        self.write(|table| {
            for mutation in mutations {
                let value = mutation.value_mac.as_slice();
                table.put((MUTATION, name), &mutation.index_mac, value, 0)?;
            }
            Ok(())
        })
    }

    async fn get_mutation_mac(&self, name: &str, index_mac: &[u8]) -> Result<Option<Vec<u8>>> {
        self.read(|table| table.get(MUTATION, name, index_mac))
    }

    async fn delete_mutation_macs(&self, name: &str, index_macs: &[Vec<u8>]) -> Result<()> {
        self.write(|table| {
            index_macs.iter().try_for_each(|index_mac| table.delete(MUTATION, name, index_mac))
        })
    }

    async fn clear_mutation_macs(&self, name: &str) -> Result<()> {
        self.write(|table| table.delete_scope(MUTATION, name))
    }
}

/// A message's secret and the time of the message, in Unix seconds; 0: unknown.
type Secret = (MessageSecret, i64);

#[async_trait]
impl MsgSecretStore for Keys {
    async fn put_msg_secrets(&self, entries: Vec<MsgSecretEntry>) -> Result<usize> {
        self.note(|table| {
            let known = "SELECT value, at FROM entry WHERE kind = ? AND scope = ? AND key = ?";
            for entry in &entries {
                let key = pair(&entry.sender, &entry.msg_id);
                let mut statement = table.0.prepare_cached(known)?;
                let mut rows = statement.query(params![SECRET, &*entry.chat, key.as_bytes()])?;
                let (mut ends_at, mut sent_at) = (entry.expires_at, entry.message_ts);
                if let Some(row) = rows.next()? {
                    let Json((_, known_sent_at)): Json<Secret> = row.get("value")?;
                    ends_at = merge_msg_secret_expiry(row.get("at")?, ends_at);
                    sent_at = merge_msg_secret_message_ts(known_sent_at, sent_at);
                }
                table.put((SECRET, &entry.chat), key, Json((entry.secret, sent_at)), ends_at)?;
            }
            Ok(entries.len())
        })
    }

    async fn get_msg_secret(
        &self,
        chat: &str,
        sender: &str,
        msg_id: &str,
    ) -> Result<Option<Vec<u8>>> {
        let found = self.get_msg_secret_with_ts(chat, sender, msg_id).await?;
        Ok(found.map(|(secret, _)| secret))
    }

    async fn get_msg_secret_with_ts(
        &self,
        chat: &str,
        sender: &str,
        msg_id: &str,
    ) -> Result<Option<(Vec<u8>, i64)>> {
        let found: Option<Json<Secret>> =
            self.read(|table| table.get(SECRET, chat, pair(sender, msg_id)))?;
        Ok(found.map(|Json((secret, sent_at))| (secret.to_vec(), sent_at)))
    }

    async fn delete_expired_msg_secrets(&self, cutoff_timestamp: i64) -> Result<u32> {
        let sql = "DELETE FROM entry WHERE kind = ? AND at BETWEEN 1 AND ?";
        let count = self.note(|table| {
            table.0.prepare_cached(sql)?.execute(params![SECRET, cutoff_timestamp])
        })?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}
