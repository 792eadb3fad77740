//! Creates machines with OpenTofu or Terraform: one module per provider, one working directory and one state per
//! machine.
//!
//! The host first saves a plan, and applies exactly that file after checking its digest. It reads the state after
//! each apply and destroy instead of trusting the exit status. It never resumes an interrupted apply: a plan is valid
//! for one state only, so the host destroys what the apply created.

mod bucket;
mod folder;
mod lock;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host_domain::ids::OperationId;
use host_domain::node::Node;
use host_workflows::ActivityContext;
use secrecy::SecretString;
use serde_json::Value;

use self::folder::Folder;
use super::child::{self, Input, Output, Program, ProgramExit, told};
use super::{Candidate, Created, Join, MachineProviderError, NodeMachine, Plan};
use crate::config::OpentofuConfig;

/// The time limit of `init`, which downloads providers.
const INIT_MAX: Duration = Duration::from_mins(4);
/// The time limit of `plan`.
const PLAN_MAX: Duration = Duration::from_mins(4);
/// The time limit for reading the state.
const READ_MAX: Duration = Duration::from_mins(1);
/// How long the program may take to save its state after an interrupt.
const GRACE: Duration = Duration::from_mins(1);
/// Waits for the process of a killed host to release the state.
const LOCK: &str = "-lock-timeout=60s";
/// Precedes the digest in the text that the operation keeps.
const DIGEST_MARK: &str = "sha256:";
/// The exit status of a plan with changes.
const HAS_CHANGES: i32 = 2;

/// A machine provider of kind `opentofu`.
pub struct Opentofu {
    pub(super) config: OpentofuConfig,
    /// PEM file with the certificate authority that agents trust.
    pub(super) ca_file: PathBuf,
    /// The parent of all working directories.
    pub(super) folder: PathBuf,
}

impl Opentofu {
    /// The machine of one node. A node migration needs a second machine with its own name, directory, state and plan,
    /// because both exist at once.
    pub(super) fn candidate(node: &Node, beside: Option<OperationId>) -> Candidate {
        let provider = &node.placement.provider;
        let name = match beside {
            None => format!("{provider}/{}", node.id),
            Some(migration) => {
                let migration = migration.to_string();
                // The last group of a UUID v7 is random.
                let own = &migration[migration.len() - 12..];
                format!("{provider}/{}-{own}", node.id)
            }
        };
        Candidate {
            name,
            address: None,
        }
    }

    /// Saves a plan, and returns its text for people with its digest.
    pub(super) async fn plan(
        &self,
        machine: &NodeMachine,
        join: Option<&Join>,
        ctx: &ActivityContext,
    ) -> Result<Plan, MachineProviderError> {
        let run = self.run(machine, join, ctx).await?;
        run.folder.prepare(&self.config)?;
        run.succeed("init", &["init", "-input=false", "-no-color"], INIT_MAX)
            .await?;
        let out = "-out=plan.bin";
        let args = [
            "plan",
            "-input=false",
            "-no-color",
            "-detailed-exitcode",
            LOCK,
            out,
        ];
        let planned = run.engine("plan", &args, PLAN_MAX).await?;
        match planned.status.code() {
            Some(HAS_CHANGES) => {}
            Some(0) => {
                return Err(run.failed(
                    "plan",
                    "the module's plan creates nothing; the module must create a machine",
                    planned.said,
                ));
            }
            _ => {
                return Err(run.failed("plan", "the plan failed; see the output", planned.said));
            }
        }
        let digest = run.folder.plan_digest()?;
        let text = told(&String::from_utf8_lossy(&planned.answer), &run.secrets);
        Ok(Plan {
            text: format!(
                "{text}\n\nThe plan is {DIGEST_MARK}{digest}; this and nothing else is applied."
            ),
        })
    }

    /// Applies the plan that the operation keeps.
    pub(super) async fn create(
        &self,
        machine: &NodeMachine,
        ctx: &ActivityContext,
    ) -> Result<Created, MachineProviderError> {
        let run = self.run(machine, None, ctx).await?;
        if run.folder.is_applied() {
            return Ok(Created {
                address: run.address().await?,
                output: String::new(),
            });
        }
        if !run.is_empty().await? {
            let message = "an earlier attempt created part of the machine, and a plan can't be applied twice; the host will destroy that part";
            return Err(run.failed("apply", message, String::new()));
        }
        let kept = machine.planned.as_deref().and_then(digest_in);
        if kept != Some(run.folder.plan_digest()?.as_str()) {
            let message = "the plan in the working directory differs from the one that the operation shows, so nothing was applied; start the operation again";
            return Err(run.failed("apply", message, String::new()));
        }
        run.folder.note_apply_begun()?;
        let args = ["apply", "-input=false", "-no-color", LOCK, "plan.bin"];
        let applied = run.engine("apply", &args, self.config.apply_limit).await?;
        if !applied.status.success() {
            if run.is_empty().await? {
                return Err(MachineProviderError::TryAgain {
                    step: run.name("apply"),
                    message: "the apply failed before it created anything; see the output"
                        .to_owned(),
                    output: applied.said,
                });
            }
            let message = "the apply failed after it created part of the machine; see the output";
            return Err(run.failed("apply", message, applied.said));
        }
        let address = run.address().await?;
        if address.is_none() {
            let message = "the apply succeeded without an output `address`: the module is not written for Bellwether or created nothing";
            return Err(run.failed("apply", message, applied.said));
        }
        run.folder.note_applied()?;
        Ok(Created {
            address,
            output: applied.said,
        })
    }

    /// Destroys everything in the state, and forgets the machine when the state is empty.
    pub(super) async fn destroy(
        &self,
        machine: &NodeMachine,
        ctx: &ActivityContext,
    ) -> Result<String, MachineProviderError> {
        let run = self.run(machine, None, ctx).await?;
        if !run.folder.is_apply_begun() {
            let is_elsewhere = self.config.s3.is_some() && !run.folder.is_prepared();
            if !is_elsewhere {
                run.folder.remove()?;
                return Ok("Nothing was created, so there is nothing to destroy.".to_owned());
            }
            // Another host may have started an apply; the next attempt must read the state instead of assuming that
            // there is nothing.
            run.folder.note_apply_begun()?;
        }
        run.folder.prepare(&self.config)?;
        run.succeed("init", &["init", "-input=false", "-no-color"], INIT_MAX)
            .await?;
        let mut output = "There was nothing left to destroy.".to_owned();
        // Another process may still hold the lock of a state in a bucket, and only `destroy` waits for that lock.
        if self.config.s3.is_some() || !run.is_empty().await? {
            let args = [
                "destroy",
                "-auto-approve",
                "-input=false",
                "-no-color",
                LOCK,
            ];
            output = run
                .succeed("destroy", &args, self.config.apply_limit)
                .await?
                .said;
            if !run.is_empty().await? {
                let message = "`destroy` succeeded, but the state still contains resources; check the cloud provider's console";
                return Err(run.failed("destroy", message, output));
            }
        }
        self.forget(machine).await;
        run.folder.remove()?;
        Ok(output)
    }

    /// Removes the state of a destroyed machine. An empty state is harmless, so a failure does not delay the node.
    async fn forget(&self, machine: &NodeMachine) {
        let Some(s3) = &self.config.s3 else {
            return;
        };
        let name = own_name(machine);
        if let Err(error) = bucket::delete(s3, name, &self.config.secrets).await {
            let object = bucket::object(s3, name);
            tracing::warn!(
                bucket = s3.bucket,
                object,
                "the host can't delete the empty state of a destroyed machine: {error:#}"
            );
        }
    }

    async fn run<'a>(
        &'a self,
        machine: &NodeMachine,
        join: Option<&Join>,
        ctx: &'a ActivityContext,
    ) -> Result<Run<'a>, MachineProviderError> {
        let token = join.map_or_else(SecretString::default, |join| join.token.clone());
        let mut secrets = vec![token.clone()];
        let mut environment = self.variables(machine, token)?;
        for (name, file) in &self.config.secrets {
            let secret = SecretString::from(read(file)?.trim().to_owned());
            secrets.push(secret.clone());
            environment.push((name.clone(), secret));
        }
        let folder = Folder::of(&self.folder, own_name(machine));
        Ok(Run {
            binary: &self.config.binary,
            lock: folder.lock(ctx).await?,
            folder,
            environment,
            secrets,
            ctx,
        })
    }

    /// All inputs go through the environment, which only the same user can read.
    fn variables(
        &self,
        machine: &NodeMachine,
        token: SecretString,
    ) -> Result<Vec<(String, SecretString)>, MachineProviderError> {
        let placement = &machine.node.placement;
        let ca = read(&self.ca_file)?;
        let own = [
            ("TF_VAR_name", format!("bellwether-{}", own_name(machine))),
            ("TF_VAR_region", placement.region.clone()),
            ("TF_VAR_instance_type", placement.instance_type.clone()),
            ("TF_VAR_gateway", self.config.gateway.clone()),
            ("TF_VAR_ca_pem", ca),
            ("TF_IN_AUTOMATION", "1".to_owned()),
            ("CHECKPOINT_DISABLE", "1".to_owned()),
        ];
        let mut variables: Vec<_> = own
            .into_iter()
            .map(|(name, value)| (name.to_owned(), SecretString::from(value)))
            .collect();
        variables.push(("TF_VAR_token".to_owned(), token));
        for (name, value) in &self.config.variables {
            variables.push((format!("TF_VAR_{name}"), SecretString::from(value.clone())));
        }
        Ok(variables)
    }
}

/// The machine's name within its provider.
fn own_name(machine: &NodeMachine) -> &str {
    let name = machine.record.name.as_str();
    name.rsplit_once('/').map_or(name, |(_, own)| own)
}

/// OpenTofu or Terraform in one machine's directory.
struct Run<'a> {
    binary: &'a Path,
    folder: Folder,
    /// Held by this run and inherited by the program, which keeps it when this host dies.
    lock: File,
    environment: Vec<(String, SecretString)>,
    secrets: Vec<SecretString>,
    ctx: &'a ActivityContext,
}

impl Run<'_> {
    /// The name of a command in messages.
    fn name(&self, command: &str) -> String {
        let engine = self
            .binary
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        format!("{engine} {command}")
    }

    async fn engine(
        &self,
        command: &str,
        args: &[&str],
        limit: Duration,
    ) -> Result<ProgramExit, MachineProviderError> {
        let mut program = Program::new(&self.name(command), self.binary, args);
        program.dir = Some(self.folder.module());
        program.environment.clone_from(&self.environment);
        program.secrets.clone_from(&self.secrets);
        let root = self.folder.root().to_owned();
        program.input = match self.lock.try_clone() {
            Ok(lock) => Input::File(lock),
            Err(source) => return Err(MachineProviderError::File { path: root, source }),
        };
        program.output = Output::Files(root);
        program.limit = limit;
        program.grace = GRACE;
        Ok(Box::pin(child::run(program, self.ctx)).await?)
    }

    async fn succeed(
        &self,
        command: &str,
        args: &[&str],
        limit: Duration,
    ) -> Result<ProgramExit, MachineProviderError> {
        let ended = self.engine(command, args, limit).await?;
        if ended.status.success() {
            return Ok(ended);
        }
        Err(MachineProviderError::TryAgain {
            step: self.name(command),
            message: "the command failed; see the output".to_owned(),
            output: ended.said,
        })
    }

    /// The machine's address from the module's output.
    async fn address(&self) -> Result<Option<String>, MachineProviderError> {
        let outputs = self.json("output", &["output", "-json"]).await?;
        let address = outputs.pointer("/address/value").and_then(Value::as_str);
        Ok(address.filter(|text| !text.is_empty()).map(str::to_owned))
    }

    /// Whether the state contains no resources.
    async fn is_empty(&self) -> Result<bool, MachineProviderError> {
        let shown = self.json("show", &["show", "-json"]).await?;
        if shown.get("format_version").is_none() {
            return Err(self.failed("show", "the output is not a state", shown.to_string()));
        }
        let has = |at: &str| {
            shown
                .pointer(at)
                .and_then(Value::as_array)
                .is_some_and(|all| !all.is_empty())
        };
        Ok(!has("/values/root_module/resources") && !has("/values/root_module/child_modules"))
    }

    async fn json(&self, command: &str, args: &[&str]) -> Result<Value, MachineProviderError> {
        let ended = self.succeed(command, args, READ_MAX).await?;
        // Some versions print text before the JSON on the same output.
        let start = ended
            .answer
            .iter()
            .position(|byte| *byte == b'{')
            .unwrap_or(0);
        serde_json::from_slice(&ended.answer[start..])
            .map_err(|_| self.failed(command, "the output is not JSON", ended.said))
    }

    fn failed(&self, command: &str, message: &str, output: String) -> MachineProviderError {
        MachineProviderError::Failed {
            step: self.name(command),
            message: message.to_owned(),
            output,
        }
    }
}

fn read(path: &Path) -> Result<String, MachineProviderError> {
    std::fs::read_to_string(path).map_err(|source| MachineProviderError::File {
        path: path.to_owned(),
        source,
    })
}

/// The digest in the plan text that an operation keeps.
fn digest_in(kept: &str) -> Option<&str> {
    let (_, rest) = kept.rsplit_once(DIGEST_MARK)?;
    rest.split(';').next()
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn the_digest_of_a_kept_plan_is_found() {
        let digest = hex::encode(Sha256::digest(b"plan"));
        let kept = format!(
            "  + image = \"sha256:0\"\n\nThe plan is sha256:{digest}; this and nothing else is applied."
        );
        assert_eq!(digest_in(&kept), Some(digest.as_str()));
        assert_eq!(digest_in("no plan"), None);
    }
}
