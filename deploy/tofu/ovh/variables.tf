# Set by the host for each machine.

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
  description = "Where the agent reaches its host."
}

variable "ca_pem" {
  type        = string
  description = "The authority that the agent trusts."
}

variable "token" {
  type        = string
  sensitive   = true
  description = "One-time token by which the agent enrols; empty when the machine is destroyed."
}

# Set by the operator under `variables`.

variable "agent_url" {
  type        = string
  description = "Where the machine fetches the agent's program."
}

variable "agent_sha256" {
  type        = string
  description = "Digest of the agent's program, in hex."
}

variable "image" {
  type        = string
  default     = "Debian 12"
  description = "System image; it needs cloud-init and systemd."
}

variable "open_tcp_ports" {
  type        = list(string)
  default     = []
  description = "Ports that anybody may reach, for the node's peers. The agent needs none."
}

variable "network" {
  type        = string
  default     = "Ext-Net"
  description = "Network that the machine is in."
}
