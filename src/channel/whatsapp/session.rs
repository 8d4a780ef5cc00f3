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
use super::inbound::{Inbound, Recovered};
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
    pub(super) keys: Arc<Keys>,
    // Dropped, they end the listening.
    _subscriptions: [Subscription; 2],
    _lease: RawNodeLease,
}

impl Session {
    /// Makes a client that is not connected.
    ///
    /// # Errors
    /// A database, keys or certificates that cannot be had.
    pub(super) fn make(given: &Given, pool: Arc<Pool>, ears: Ears) -> anyhow::Result<Session> {
        let told = ears.clone();
        let inbound = Inbound::new(&given.home, &given.settings, move || told.tell(Word::NotKept))?;
        let keys = Keys::open(&given.home.whatsapp_database())?;
        let manager = Arc::new(block_on(PersistenceManager::new(Arc::clone(&keys) as _))?);
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
                .with_background_saver_interval(SAVED_AGAIN_AFTER)
                .with_inbound_durability_hook_arc(hook)
                .build(),
        )?
        .into_client();
        client.enable_auto_reconnect.store(false, Ordering::Relaxed);
        let recovered = Recovered::new(&inbound, &client, &pool);
        let subscriptions = [
            client.subscribe_handler(Arc::new(ears.clone())),
            client.subscribe_handler(Arc::new(recovered)),
        ];
        let lease = client.acquire_raw_node_forwarding();
        Ok(Session {
            client,
            pool,
            ears,
            inbound,
            keys,
            _subscriptions: subscriptions,
            _lease: lease,
        })
    }

    /// Whether the keys are those of a device that a phone has taken in.
    ///
    /// # Errors
    /// They cannot be read: who cannot know must not take them for none.
    pub(super) fn is_paired(home: &Home) -> anyhow::Result<bool> {
        let path = home.whatsapp_database();
        if !path.try_exists()? {
            return Ok(false);
        }
        let manager = block_on(PersistenceManager::new(Keys::open(&path)?))?;
        Ok(manager.get_device_snapshot().pn.is_some())
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
            // What the device knows of itself is all that the library had not got to.
            let manager = self.client.persistence_manager();
            if !matches!(block_on(timeout(&*self.pool, SAVE_MAX, manager.flush())), Ok(Ok(()))) {
                log::warn!("what WhatsApp told of this account last may be lost");
            }
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

/// Shows the others what we do; tells whether all of it was sent.
pub(super) fn show(online: &Online, signs: Vec<Sign>) -> bool {
    let all = async {
        let mut is_shown = true;
        for sign in signs {
            if let Err(error) = show_one(&online.client, sign).await {
                log::debug!("not shown: {error:#}");
                is_shown = false;
            }
        }
        is_shown
    };
    block_on(timeout(&*online.pool, SHOW_MAX, all)).unwrap_or(false)
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
const SAVE_MAX: Duration = Duration::from_secs(1);
/// What the device knows of itself is saved at each change; what could not be, this much later.
const SAVED_AGAIN_AFTER: Duration = Duration::from_mins(1);
