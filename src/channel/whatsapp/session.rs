//! The client of the protocol library, how it is made and ended.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wacore::net::HttpClient;
use wacore::runtime::timeout;
use wacore::store::commands::DeviceCommand;
use wacore::store::device::DevicePropsOverride;
use wacore::types::events::Subscription;
use wacore_binary::Jid;
use whatsapp_rust::store::persistence_manager::PersistenceManager;
use whatsapp_rust::version::fetch_latest_app_version;
use whatsapp_rust::{Client, RawNodeLease, anyhow};

use super::ears::{Ears, Word};
use super::http::Http;
use super::inbound::Inbound;
use super::keys::Keys;
use super::line::Online;
use super::link::Given;
use super::presence::Sign;
use super::runtime::{Pool, block_on};
use super::transport::Sockets;
use crate::home::Home;
use crate::limits::{LINK_CLOSE_MAX, WHATSAPP_VERSION_MAX};

/// What the phone calls this device.
const DEVICE_NAME: &str = "rust-claw";
/// The version of `WhatsApp` Web where none can be asked for. It grows by some thousands a day and
/// is accepted for some weeks.
const VERSION: (u32, u32, u32) = (2, 3000, 1_043_857_760);

/// A client with all that it needs. It outlives its connections, for the sake of what it knows by
/// heart; once it is closed, another is made.
pub(super) struct Session {
    pub(super) client: Arc<Client>,
    pub(super) pool: Arc<Pool>,
    pub(super) ears: Ears,
    pub(super) inbound: Arc<Inbound>,
    // Dropped, they end the listening.
    _subscription: Subscription,
    _lease: RawNodeLease,
}

impl Session {
    /// Makes a client that is not connected.
    ///
    /// # Errors
    /// A database, keys or certificates that cannot be had.
    pub(super) fn make(given: &Given, pool: Arc<Pool>, ears: Ears) -> anyhow::Result<Session> {
        let inbound = Inbound::new(&given.home, &given.settings)?;
        let keys = Keys::open(&given.home.whatsapp_database())?;
        let manager = Arc::new(block_on(PersistenceManager::new(keys))?);
        let roots = given.roots.as_deref();
        let http: Arc<dyn HttpClient> =
            Arc::new(Http::new(&given.endpoint, Arc::clone(&pool), roots)?);
        let told = ears.clone();
        let sockets = Sockets::new(given.endpoint.clone(), Arc::clone(&pool), roots)?
            .on_end(move |end| told.tell(Word::Line(end)));
        let props = DevicePropsOverride::new().with_os(DEVICE_NAME);
        block_on(manager.process_command(DeviceCommand::SetDeviceProps(props)));
        let version = match given.settings.whatsapp_version {
            Some(version) => version,
            None => version(&pool, &http, &manager, given.endpoint.is_far()),
        };
        let runtime: Arc<dyn wacore::runtime::Runtime> = Arc::clone(&pool) as _;
        let hook: Arc<dyn whatsapp_rust::InboundDurabilityHook> = Arc::clone(&inbound) as _;
        let client = block_on(
            Client::builder()
                .with_runtime_arc(runtime)
                .with_persistence_manager(manager)
                .with_transport_factory(sockets)
                .with_http_client_arc(http)
                .with_version_override(version)
                .with_inbound_durability_hook_arc(hook)
                .build(),
        )?
        .into_client();
        client.enable_auto_reconnect.store(false, Ordering::Relaxed);
        let subscription = client.subscribe_handler(Arc::new(ears.clone()));
        let lease = client.acquire_raw_node_forwarding();
        Ok(Session { client, pool, ears, inbound, _subscription: subscription, _lease: lease })
    }

    /// Whether the keys are those of a device that a phone has taken in.
    pub(super) fn is_paired(home: &Home) -> bool {
        let path = home.whatsapp_database();
        if !path.exists() {
            return false;
        }
        let device = Keys::open(&path)
            .map_err(anyhow::Error::from)
            .and_then(|keys| Ok(block_on(PersistenceManager::new(keys))?))
            .map(|manager| manager.get_device_snapshot());
        match device {
            Ok(device) => device.pn.is_some(),
            Err(error) => {
                log::error!("cannot read the keys of WhatsApp: {error:#}");
                false
            }
        }
    }

    /// Removes the keys.
    ///
    /// # Errors
    /// They cannot be opened or removed.
    pub(super) fn forget(home: &Home) -> io::Result<()> {
        let keys = Keys::open(&home.whatsapp_database()).map_err(io::Error::other)?;
        keys.wipe().map_err(io::Error::other)
    }

    /// Tells the server that this device goes.
    pub(super) fn log_out(&self) {
        if block_on(timeout(&*self.pool, LINK_CLOSE_MAX, self.client.logout())).is_err() {
            log::warn!("WhatsApp did not answer the log-out; remove the device on the phone");
        }
    }

    /// Ends the connection, with all that was received and sent on the disk.
    pub(super) fn close(self) {
        if block_on(timeout(&*self.pool, LINK_CLOSE_MAX, self.client.disconnect())).is_err() {
            log::warn!("the connection to WhatsApp did not end in time");
        }
    }
}

/// The version that is in use today, as far as that can be known.
fn version(
    pool: &Arc<Pool>,
    http: &Arc<dyn HttpClient>,
    manager: &PersistenceManager,
    is_far: bool,
) -> (u32, u32, u32) {
    let asked = is_far
        .then(|| block_on(timeout(&**pool, WHATSAPP_VERSION_MAX, fetch_latest_app_version(http))));
    match asked {
        Some(Ok(Ok(version))) => return version,
        Some(Ok(Err(error))) => log::warn!("today's version of WhatsApp Web is unknown: {error:#}"),
        Some(Err(_)) => log::warn!("today's version of WhatsApp Web is unknown: no answer"),
        None => {}
    }
    let device = manager.get_device_snapshot();
    let last =
        (device.app_version_primary, device.app_version_secondary, device.app_version_tertiary);
    if device.app_version_last_fetched_ms == 0 { VERSION } else { last.max(VERSION) }
}

/// Shows the others what we do. What cannot be shown is not worth a word.
pub(super) fn show(online: &Online, signs: Vec<Sign>) {
    let all = async {
        for sign in signs {
            if let Err(error) = show_one(&online.client, sign).await {
                log::debug!("not shown: {error:#}");
            }
        }
    };
    if block_on(timeout(&*online.pool, SHOW_MAX, all)).is_err() {
        log::debug!("not shown in time");
    }
}

async fn show_one(client: &Client, sign: Sign) -> anyhow::Result<()> {
    let jid = |chat: crate::ids::ChatJid| chat.as_str().parse::<Jid>();
    match sign {
        Sign::Available => client.presence().set_available().await?,
        Sign::Unavailable => client.presence().set_unavailable().await?,
        Sign::Typing(chat) => client.chatstate().send_composing(&jid(chat)?).await?,
        Sign::Paused(chat) => client.chatstate().send_paused(&jid(chat)?).await?,
    }
    Ok(())
}

const SHOW_MAX: Duration = Duration::from_secs(2);
