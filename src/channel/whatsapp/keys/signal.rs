//! Identities, sessions and keys of the Signal protocol.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::params;
use wacore::store::error::Result;
use wacore::store::traits::SignalStore;

use super::Keys;
use super::table::ALL;

const IDENTITY: &str = "identity";
const SESSION: &str = "session";
/// Keys of these two are numbers, big-endian, so that they sort.
const PRE_KEY: &str = "pre_key";
const SIGNED_PRE_KEY: &str = "signed_pre_key";
const SENDER_KEY: &str = "sender_key";

impl Keys {
    fn put_one(&self, kind: &str, key: impl AsRef<[u8]>, value: &[u8]) -> Result<()> {
        self.write(|table| table.put((kind, ALL), key, value, 0))
    }

    fn put_many<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        kind: &str,
        entries: impl Iterator<Item = (K, V)>,
    ) -> Result<()> {
        self.write(|table| {
            for (key, value) in entries {
                table.put((kind, ALL), key, value.as_ref(), 0)?;
            }
            Ok(())
        })
    }

    fn get_one<T: rusqlite::types::FromSql>(
        &self,
        kind: &str,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<T>> {
        self.read(|table| table.get(kind, ALL, key))
    }

    fn delete_one(&self, kind: &str, key: impl AsRef<[u8]>) -> Result<()> {
        self.write(|table| table.delete(kind, ALL, key))
    }
}

#[async_trait]
impl SignalStore for Keys {
    async fn put_identity(&self, address: &str, key: [u8; 32]) -> Result<()> {
        self.put_one(IDENTITY, address, &key)
    }

    async fn put_identities_batch(&self, identities: &[(Arc<str>, [u8; 32])]) -> Result<()> {
        self.put_many(IDENTITY, identities.iter().map(|(address, key)| (address.as_bytes(), key)))
    }

    async fn load_identity(&self, address: &str) -> Result<Option<[u8; 32]>> {
        self.get_one(IDENTITY, address)
    }

    async fn delete_identity(&self, address: &str) -> Result<()> {
        self.delete_one(IDENTITY, address)
    }

    async fn get_session(&self, address: &str) -> Result<Option<Bytes>> {
        Ok(self.get_one::<Vec<u8>>(SESSION, address)?.map(Bytes::from))
    }

    async fn put_session(&self, address: &str, session: &[u8]) -> Result<()> {
        self.put_one(SESSION, address, session)
    }

    async fn put_sessions_batch(&self, sessions: &[(Arc<str>, Bytes)]) -> Result<()> {
        self.put_many(SESSION, sessions.iter().map(|(address, entry)| (address.as_bytes(), entry)))
    }

    async fn delete_session(&self, address: &str) -> Result<()> {
        self.delete_one(SESSION, address)
    }

    async fn has_signal_state_for_user(&self, user: &str) -> Result<bool> {
        // An address is `user@server` or `user:device@server`.
        let sql = "SELECT EXISTS (
            SELECT 1 FROM entry WHERE kind IN (?1, ?2) AND scope = ?3
            AND (substr(key, 1, length(?4)) = ?4 OR substr(key, 1, length(?5)) = ?5))";
        let (plain, of_device) = (format!("{user}@"), format!("{user}:"));
        self.read(|table| {
            let starts = params![IDENTITY, SESSION, ALL, plain.as_bytes(), of_device.as_bytes()];
            table.0.prepare_cached(sql)?.query_row(starts, |row| row.get(0))
        })
    }

    // Which keys were uploaded is not kept: the library never asks.
    async fn store_prekey(&self, id: u32, record: &[u8], _uploaded: bool) -> Result<()> {
        self.put_one(PRE_KEY, id.to_be_bytes(), record)
    }

    async fn store_prekeys_batch(&self, keys: &[(u32, Bytes)], _uploaded: bool) -> Result<()> {
        self.put_many(PRE_KEY, keys.iter().map(|(id, record)| (id.to_be_bytes(), record)))
    }

    async fn load_prekey(&self, id: u32) -> Result<Option<Bytes>> {
        Ok(self.get_one::<Vec<u8>>(PRE_KEY, id.to_be_bytes())?.map(Bytes::from))
    }

    async fn load_prekeys_batch(&self, ids: &[u32]) -> Result<Vec<(u32, Bytes)>> {
        self.read(|table| {
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                let record: Option<Vec<u8>> = table.get(PRE_KEY, ALL, id.to_be_bytes())?;
                found.extend(record.map(|record| (*id, Bytes::from(record))));
            }
            Ok(found)
        })
    }

    async fn mark_prekeys_uploaded(&self, _ids: &[u32]) -> Result<()> {
        Ok(())
    }

    async fn remove_prekey(&self, id: u32) -> Result<()> {
        self.delete_one(PRE_KEY, id.to_be_bytes())
    }

    async fn get_max_prekey_id(&self) -> Result<u32> {
        let sql = "SELECT max(key) FROM entry WHERE kind = ? AND scope = ?";
        let last: Option<[u8; 4]> = self.read(|table| {
            table.0.prepare_cached(sql)?.query_row([PRE_KEY, ALL], |row| row.get(0))
        })?;
        Ok(last.map_or(0, u32::from_be_bytes))
    }

    async fn store_signed_prekey(&self, id: u32, record: &[u8]) -> Result<()> {
        self.put_one(SIGNED_PRE_KEY, id.to_be_bytes(), record)
    }

    async fn load_signed_prekey(&self, id: u32) -> Result<Option<Vec<u8>>> {
        self.get_one(SIGNED_PRE_KEY, id.to_be_bytes())
    }

    async fn load_all_signed_prekeys(&self) -> Result<Vec<(u32, Vec<u8>)>> {
        let all = self.read(|table| table.list(SIGNED_PRE_KEY, ALL))?;
        let number = |key: Vec<u8>| key.try_into().ok().map(u32::from_be_bytes);
        Ok(all.into_iter().filter_map(|(key, record)| Some((number(key)?, record))).collect())
    }

    async fn remove_signed_prekey(&self, id: u32) -> Result<()> {
        self.delete_one(SIGNED_PRE_KEY, id.to_be_bytes())
    }

    async fn put_sender_key(&self, address: &str, record: &[u8]) -> Result<()> {
        self.put_one(SENDER_KEY, address, record)
    }

    async fn put_sender_keys_batch(&self, sender_keys: &[(Arc<str>, Bytes)]) -> Result<()> {
        self.put_many(
            SENDER_KEY,
            sender_keys.iter().map(|(name, record)| (name.as_bytes(), record)),
        )
    }

    async fn get_sender_key(&self, address: &str) -> Result<Option<Vec<u8>>> {
        self.get_one(SENDER_KEY, address)
    }

    async fn delete_sender_key(&self, address: &str) -> Result<()> {
        self.delete_one(SENDER_KEY, address)
    }
}
