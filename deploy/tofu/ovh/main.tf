# One node's machine in OVHcloud's Public Cloud, through its OpenStack API. Credentials come from the environment: OS_AUTH_URL,
# OS_USERNAME, OS_PASSWORD, OS_PROJECT_ID and so on, as in the project's openrc file.

terraform {
  required_version = ">= 1.6"

  required_providers {
    openstack = {
      source  = "terraform-provider-openstack/openstack"
      version = "~> 3.0"
    }
  }
}

provider "openstack" {
  region = var.region
}

resource "openstack_networking_secgroup_v2" "node" {
  name        = var.name
  description = "Created by Bellwether"
}

resource "openstack_networking_secgroup_rule_v2" "open" {
  for_each = toset(var.open_tcp_ports)

  direction         = "ingress"
  ethertype         = "IPv4"
  protocol          = "tcp"
  port_range_min    = each.value
  port_range_max    = each.value
  remote_ip_prefix  = "0.0.0.0/0"
  security_group_id = openstack_networking_secgroup_v2.node.id
}

resource "openstack_compute_instance_v2" "node" {
  name            = var.name
  flavor_name     = var.instance_type
  image_name      = var.image
  security_groups = [openstack_networking_secgroup_v2.node.name]
  metadata        = { managed-by = "bellwether" }

  user_data = templatefile("${path.module}/cloud-init.yaml.tftpl", {
    name         = var.name
    gateway      = var.gateway
    ca_pem       = var.ca_pem
    token        = var.token
    agent_url    = var.agent_url
    agent_sha256 = var.agent_sha256
  })

  network {
    name = var.network
  }

  lifecycle {
    # The token in here is worthless after the first start: a new token must not replace the machine.
    ignore_changes = [user_data]
  }
}

# The address that people find the machine by; the host requires this output from every module.
output "address" {
  value = openstack_compute_instance_v2.node.access_ip_v4
}
