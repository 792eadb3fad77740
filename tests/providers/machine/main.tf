# A "machine" that needs no provider to be fetched: an agent that is started on this one, and ended with it.

variable "name" { type = string }
variable "gateway" { type = string }
variable "ca_pem" { type = string }
variable "token" {
  type      = string
  sensitive = true
}
variable "agent" { type = string }
variable "dir" { type = string }
# "always", or "beside": only for a node's second machine, whose name is longer.
variable "breaks" {
  type    = string
  default = "never"
}
variable "hold" {
  type    = string
  default = "/nonexistent"
}

locals {
  dir    = "${var.dir}/${var.name}"
  breaks = var.breaks == "always" || var.breaks == "beside" && length(var.name) > 47
}

resource "terraform_data" "machine" {
  input = { dir = local.dir }

  provisioner "local-exec" {
    command = <<-END
      set -eu
      umask 077
      mkdir -p "$${DIR%/*}"
      mkdir "$DIR"
      printf '%s\n' "$CA" >"$DIR/ca.pem"
      printf '%s\n' "$TOKEN" >"$DIR/token"
      cd "$DIR"
      setsid "$AGENT" --state-dir "$DIR/state" --gateway "$GATEWAY" --ca-file "$DIR/ca.pem" --token-file "$DIR/token" \
        --name "$NAME" </dev/null >"$DIR/agent.log" 2>&1 &
    END

    environment = {
      DIR     = local.dir
      CA      = var.ca_pem
      TOKEN   = var.token
      AGENT   = var.agent
      GATEWAY = var.gateway
      NAME    = var.name
    }
  }

  provisioner "local-exec" {
    when    = destroy
    command = <<-END
      for process in /proc/[0-9]*; do
        case "$(readlink "$process/cwd" 2>/dev/null)" in
        "$DIR" | "$DIR"/*) kill -KILL "$${process#/proc/}" ;;
        esac
      done
      sleep 0.5
      rm -rf "$DIR"
      rmdir "$${DIR%/*}" 2>/dev/null || true
    END

    environment = { DIR = self.input.dir }
  }
}

# A second part, which may break when the first was made, and takes as long as a file is there.
resource "terraform_data" "after" {
  depends_on = [terraform_data.machine]

  provisioner "local-exec" {
    command     = local.breaks ? "echo the quota is used up; exit 7" : "while [ -e \"$HOLD\" ]; do sleep 0.1; done"
    environment = { HOLD = var.hold }
  }
}

output "address" {
  value      = "127.0.0.1"
  depends_on = [terraform_data.machine, terraform_data.after]
}
