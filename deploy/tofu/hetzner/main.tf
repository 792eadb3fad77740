# One node's machine at Hetzner Cloud. Credentials come from the environment: HCLOUD_TOKEN.

terraform {
  required_version = ">= 1.6"

  required_providers {
    hcloud = {
      source  = "hetznercloud/hcloud"
      version = "~> 1.48"
    }
  }
}

provider "hcloud" {}

resource "hcloud_firewall" "node" {
  name = var.name

  dynamic "rule" {
    for_each = var.open_tcp_ports

    content {
      direction  = "in"
      protocol   = "tcp"
      port       = rule.value
      source_ips = ["0.0.0.0/0", "::/0"]
    }
  }
}

resource "hcloud_server" "node" {
  name         = var.name
  server_type  = var.instance_type
  image        = var.image
  location     = var.region
  firewall_ids = [hcloud_firewall.node.id]
  labels       = { managed-by = "bellwether" }

  user_data = templatefile("${path.module}/cloud-init.yaml.tftpl", {
    name         = var.name
    gateway      = var.gateway
    ca_pem       = var.ca_pem
    token        = var.token
    agent_url    = var.agent_url
    agent_sha256 = var.agent_sha256
  })

  lifecycle {
    # The token in here is worthless after the first start: a new token must not replace the machine.
    ignore_changes = [user_data]
  }
}

# The address that people find the machine by; the host requires this output from every module.
output "address" {
  value = hcloud_server.node.ipv4_address
}
