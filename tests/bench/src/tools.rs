//! What agents ask of the host: requests as files, and tools of the agent's own server.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rust_claw::ids::OutboxId;
use rust_claw_protocol::env;
use serde_json::{Value, json};

use crate::bed::{Bed, Place, chat, folder};
use crate::table::{Row, Times, ms, row};
use crate::{Extent, Outcome};

/// Each part asks as another group: how much one may ask in a while is bounded.
const ONE_BY_ONE: usize = 0;
const AT_ONCE: usize = 1;
const BY_TOOL: usize = 2;
const GROUPS: usize = 3;
/// Between two samples: no faster than a group may ask in the long run.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) fn measure(extent: Extent) -> Outcome<()> {
    for place in [Place::Memory, Place::Disk] {
        let bed = Bed::new(place, GROUPS)?;
        for number in 0..GROUPS {
            let folder = folder(number);
            bed.home.create_group_folders(&folder, &folder.to_string(), "Andy", false)?;
        }
        let (mut served, _) = bed.serve(5)?;
        bed.wait_for_engine()?;
        let single = one_by_one(&bed, extent.count(500))?;
        let count = extent.count(1000);
        let many = at_once(&bed, count)?;
        let called = calls(&bed, extent.count(500))?;
        served.stop()?;
        let name = place.name();
        row(&Row {
            what: &format!("request file renamed into place → outbox row, p50 / p95, {name}"),
            measured: single.both(),
            must: "≤ 3 / 10 ms",
            reference: "474 / 983 ms",
        })?;
        row(&Row {
            what: &format!("{count} requests of one group handled, {name}"),
            measured: ms(many),
            must: "≤ 1 s for 1000",
            reference: "–",
        })?;
        row(&Row {
            what: &format!("tool called → result at the client, p50 / p95, {name}"),
            measured: called.both(),
            must: "≤ 20 ms",
            reference: "–",
        })?;
    }
    Ok(())
}

/// A message, as `NanoClaw`'s own tool writes it; beside the folder, to be renamed into it.
fn write(bed: &Bed, group: usize, name: &str) -> Outcome<()> {
    let request = json!({ "type": "message", "chatJid": chat(group).to_string(), "text": "hi",
        "groupFolder": folder(group).to_string(), "timestamp": "2026-02-19T10:00:00.000Z" });
    Ok(fs::write(bed.home.ipc(&folder(group)).join(name), request.to_string())?)
}

fn rename(bed: &Bed, group: usize, name: &str) -> Outcome<()> {
    let ipc = bed.home.ipc(&folder(group));
    Ok(fs::rename(ipc.join(name), ipc.join("messages").join(name))?)
}

/// Each finds the program at rest.
fn one_by_one(bed: &Bed, count: usize) -> Outcome<Times> {
    let mut times = Vec::new();
    for number in 0..count {
        let name = format!("{number:06}.json");
        write(bed, ONE_BY_ONE, &name)?;
        let after = bed.store.newest_outbox_id()?;
        let begun = Instant::now();
        rename(bed, ONE_BY_ONE, &name)?;
        bed.wait_for_answer(&chat(ONE_BY_ONE), after)?;
        times.push(begun.elapsed());
        std::thread::sleep(PAUSE);
    }
    Ok(Times::new(times))
}

/// From the first that is there to the last that is done.
fn at_once(bed: &Bed, count: usize) -> Outcome<Duration> {
    let names: Vec<_> = (0..count).map(|number| format!("{number:06}.json")).collect();
    for name in &names {
        write(bed, AT_ONCE, name)?;
    }
    let last = OutboxId(bed.store.newest_outbox_id()?.0 + i64::try_from(count)?);
    let begun = Instant::now();
    for name in &names {
        rename(bed, AT_ONCE, name)?;
    }
    bed.wait(|store| Ok((last <= store.newest_outbox_id()?).then_some(())))?;
    Ok(begun.elapsed())
}

/// The agent's server of tools, as the Claude Code CLI drives it.
fn calls(bed: &Bed, count: usize) -> Outcome<Times> {
    let mut server = server(&bed.home.ipc(&folder(BY_TOOL))).spawn()?;
    let mut input = server.stdin.take().ok_or("stdin is piped")?;
    let mut output = BufReader::new(server.stdout.take().ok_or("stdout is piped")?);
    let mut ask = |id: usize, method: &str, params: &Value| -> Outcome<Value> {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        writeln!(input, "{request}")?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    };
    let client = json!({ "name": "bench", "version": "1" });
    let hello =
        json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
    ask(0, "initialize", &hello)?;
    let call = json!({ "name": "send_message", "arguments": { "text": "hi" } });
    let mut times = Vec::new();
    for number in 1..=count {
        let begun = Instant::now();
        let answer = ask(number, "tools/call", &call)?;
        times.push(begun.elapsed());
        if answer["result"]["isError"] != json!(false) {
            return Err(format!("the tool did not do it: {answer}").into());
        }
        std::thread::sleep(PAUSE);
    }
    // The end of its input ends it.
    drop(input);
    server.wait()?;
    Ok(Times::new(times))
}

fn server(ipc: &Path) -> Command {
    let mut command = Command::new(crate::programs().join("claw-agent-runner"));
    command.arg("mcp").env_clear();
    command.env(env::IPC, ipc).env(env::CHAT_JID, chat(BY_TOOL).to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}
