//! `fake-model-api [--port N] [--rules FILE|-] [--log FILE] [--key KEY]…`: a model API for tests,
//! see `rust_claw_fakes::model_api`. Prints its address and serves until it is killed.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use rust_claw_fakes::model_api::{ModelApi, Options};

fn main() -> ExitCode {
    let outcome = options().and_then(|options| {
        let api = ModelApi::start(options).map_err(|error| error.to_string())?;
        let mut out = io::stdout();
        writeln!(out, "{}", api.url()).and_then(|()| out.flush()).map_err(|e| e.to_string())?;
        loop {
            std::thread::park();
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            if writeln!(io::stderr(), "fake-model-api: {why}").is_err() {
                // Nobody to tell.
            }
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options::default();
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| format!("`{flag}` wants a value"))?;
        match flag.as_str() {
            "--port" => options.port = value.parse().map_err(|_| format!("no port: `{value}`"))?,
            "--log" => options.log = Some(value.into()),
            "--key" => options.keys.push(value),
            "--rules" => {
                let mut text = String::new();
                if value == "-" {
                    io::stdin().read_to_string(&mut text).map_err(|error| error.to_string())?;
                } else {
                    text =
                        std::fs::read_to_string(&value).map_err(|e| format!("`{value}`: {e}"))?;
                }
                options.rules =
                    serde_json::from_str(&text).map_err(|error| format!("rules: {error}"))?;
            }
            _ => return Err(format!("unknown option `{flag}`")),
        }
    }
    Ok(options)
}
