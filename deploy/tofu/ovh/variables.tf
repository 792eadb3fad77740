# The host sets these for each machine.

variable "name" {
  type        = string
  description = "Name of the machine."
}

variable "region" {
  type        = string
  description = "Region, such as GRA11."
}

variable "instance_type" {
  type        = string
  description = "Flavour, such as b3-8."
}

variable "gateway" {
  type        = string
  description = "URL of the gateway, where the agent connects to the host."
}

variable "ca_pem" {
  type        = string
  description = "Certificate of the authority that the agent trusts, in PEM."
}

variable "token" {
  type        = string
  sensitive   = true
  description = "One-time token that the agent enrols with; empty when the machine is destroyed."
}

# The operator sets these in `variables` of the machine provider.

variable "agent_url" {
  type        = string
  description = "URL from which the machine downloads the agent."
}

variable "agent_sha256" {
  type        = string
  description = "SHA-256 digest of the agent, in hex."
}

variable "image" {
  type        = string
  default     = "Debian 12"
  description = "System image; it needs cloud-init and systemd."
}

variable "open_tcp_ports" {
  type        = list(string)
  default     = []
  description = "TCP ports that are open to everyone, for the node's peers. The agent needs none."
}

variable "network" {
  type        = string
  default     = "Ext-Net"
  description = "Network to attach the machine to."
}
