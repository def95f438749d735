package readiness

// The checklist, one rule a line: id|kind|text|where.

const catalogueVMware = `
R1|BEH|the way home begins with reprotecting what the failover started|vault/lifecycle, recovery
R2|BEH|three stages in order: reprotect, fail over back, reprotect forward|vault/lifecycle
R3|PRE|failback only when reprotect is complete and points come|vault/readiness, vault/lifecycle
R4|BEH|virtual machines and physical servers, Windows and Linux|agent: any disk it can open; sites of other kinds not yet
R5|BEH|the process server may stand on either side of the link|vault/service: the item's legs
R6|PRE|process server, master target and private link are prepared first|vault/readiness as R61, R74, R16
R7|PRE|the target's configuration server runs and is connected|vault/readiness
R8|PRE|the machine is known to its configuration server|vault/readiness
R9|OPS|back the registry up; restore it at the same address|store: homeward vault backup and restore, with a new epoch
R10|PRE|the master target has no snapshots|vault/readiness
R11|BEH|snapshots of the old machine are merged by the job|not done: where a site tells of snapshots, R113 stops instead (C1)
R12|PRE|a replication group runs one OS family|vault/readiness; groups themselves not yet
R13|PRE|master target and machine have the same OS family|vault/readiness
R14|PRE|a replication group uses one master target|vault/readiness; groups themselves not yet
R15|BEH|over different master targets a group has no common point|not yet: groups
R16|PRE|ports for failback are open|vault/readiness, by probes of vault/fleet
R17|PRE|vCenter is connected before failback|not yet: vSphere
R18|PRE|the vCenter account has the permissions|not yet: vSphere
R19|BEH|a read-only account fails only at reprotect: change it and retry|not yet: vSphere; retry with corrected inputs is vault/job
R20|PRE|disks from one template have different UUIDs|homeward.Machine.Validate within a machine; against the master target's not yet
R21|PRE|an alternate vCenter is discovered first|not yet: vSphere
R22|PRE|free editions of ESXi are unsupported|not yet: vSphere
R23|PRE|Windows Server 2008 R2 SP1 physical is unsupported|not yet: physical servers
R24|PRE|no failback from VMware to Hyper-V|guidance: there is no Hyper-V site
R25|PRE|not after a completed migration|vault/readiness, vault/lifecycle
R26|PRE|not after a move to another resource group|not yet: Azure
R27|PRE|the failed-over machine was not deleted|vault/readiness
R28|PRE|the failed-over machine replicates back|vault/readiness as R3
R29|UI|original or alternate location|vault.Input, cmd/homeward: --location
R30|UI|reprotect single machines or a plan|vault/service for single ones; plans not yet
R31|PRE|a plan has the inputs of every machine|not yet: plans
R32|PRE|group members are reprotected only together|not yet: groups
R33|VAL|no figure of what will travel can be promised|improved on: recovery estimates bytes by cause, each exact, a bound or unknown
R34|VAL|an agent may take 15 minutes to register; until then reprotect is refused|vault/readiness, vault/fleet
R35|PRE|original location: datastores are mounted read-write at the master target|not yet: vSphere; local disks are opened by the first task of the job
R36|UI|alternate location: datastore and retention volume are given, a machine is made|vault/readiness, recovery
R37|UI|where the command is found|cmd/homeward: homeward item reprotect
R38|UI|the direction is preselected|vault/service: Placement
R39|UI|choose master target and process server|vault/readiness, vault/service: Placement
R40|UI|a datastore must be given, and is ignored where disks exist|vault/readiness
R41|UI|a retention volume must be selected|vault/readiness
R42|UI|the failback policy is selected by itself|vault/readiness, vault/service: Placement
R43|BEH|a job starts, with its progress|vault/job
R44|BEH|afterwards the machine is protected|vault/lifecycle
R45|BEH|the old machine is powered off during reprotect|vault/readiness, recovery
R46|OPS|the old machine must not be powered on afterwards|vault/readiness; fenced by site guards and generations
R47|UI|failures lead to remedies|homeward.Error, vault.Failure
R48|BEH|failback shuts one side down and boots the other|vault/readiness, recovery
R49|PRE|failback needs a private link|guidance; every hop is mutual TLS in any case
R50|PRE|failed-over machines reach the configuration server|vault/readiness
R51|PRE|the process server reaches configuration server and master target|vault/readiness
R52|PRE|the machines reach the process server|vault/readiness
R53|PRE|enough bandwidth from process server to home|vault/readiness
R54|BEH|replication back runs only over the private link|vault/readiness
R55|PRE|retained addresses: the link leads to the failback network card|vault/readiness
R56|PRE|retained addresses: two network cards, one for failback|vault/readiness
R57|PRE|the target network was made at protection, the link starts there|not yet: Azure
R58|PRE|ExpressRoute on the network machines fail over to|not yet: Azure
R59|OLD|public peering for storage accounts|guidance
R60|UI|failback over VPN or ExpressRoute|guidance
R61|PRE|there is a process server|vault/readiness
R62|UI|deploy one or use the existing; latency decides|vault/readiness as R66
R63|BEH|with a quick link one on the far side will do|vault/readiness as R65 and R66
R64|OPS|with a slow link deploy it where the machines are|guidance
R65|PRE|the process server is in the network of the machine|vault/readiness
R66|PRE|the process server reaches home quickly enough|vault/readiness
R67|OPS|it runs for the whole failback, and may go afterwards|vault/service: a node in use cannot be revoked unnoticed; reassociate
R68|OLD|deployment models match|guidance
R69|UI|steps to add a process server|cmd/homeward: homeward node enrol-token
R70|OLD|from a gallery image|guidance
R71|UI|network inputs of the new server|guidance
R72|BEH|set-up inside the machine registers it|enrol
R73|VAL|it shows after up to 15 minutes|vault/fleet: with its first heartbeat
`

const catalogueMasterTarget = `
R74|PRE|there is a master target at home|vault/readiness
R75|BEH|one stands on the management server by default|guidance: any node may run several roles
R76|PRE|Linux machines by a Linux master target, Windows by Windows|vault/readiness
R77|VAL|at most 60 disks at a master target|vault/readiness, homeward.Machine.Validate
R78|OPS|more disks, or much traffic: a separate master target|guidance
R79|PRE|the master target's OS version is the same or higher|vault/readiness
R80|PRE|LSI Logic controllers only at the master target|not yet: vSphere
R81|PRE|no storage vMotion of the master target|not yet: vSphere
R82|BEH|what happens after one, and how disks are found again|not yet: vSphere
R83|PRE|VMware Tools at the master target|not yet: vSphere
R84|PRE|disk.EnableUUID at the master target|not yet: vSphere
R85|PRE|the master target's host reaches the machine's disks|not yet: vSphere
R86|BEH|a missing machine is created on the master target's host|recovery: alternate location, at the target site
R87|PRE|disks without vCenter lie where the master target's host reaches them|not yet: vSphere
R88|PRE|its host is discovered before reprotect|vault/fleet: site refresh
R89|BEH|the old machine may be deleted before failback: a new one is made|recovery: alternate location
R90|BEH|alternate location: data goes to the master target's datastore|vault/readiness as R40
R91|PRE|physical machines: the target host is discovered first|not yet: physical servers
R92|PRE|the host has a VMFS datastore|not yet: vSphere; options of R40
R93|BEH|note requirements first, then make the master target|guidance
R94|BEH|the master target sends and receives failback data|mastertarget
R95|OPS|installing a Windows master target|guidance
R96|OLD|installing a Linux master target on CentOS 6.6|guidance
R97|OPS|SCSI ids while the machine is off|not yet: vSphere
R98|PRE|the value of disk.EnableUUID|not yet: vSphere
R99|OLD|packages of the Linux master target|guidance: one static binary
R100|OLD|packages for ReiserFS and XFS|guidance: file systems are not mounted
R101|OLD|custom changes, run once|guidance
R102|PRE|there is a retention volume for the points|vault/readiness
R103|BEH|a volume that violates a criterion is not offered|vault/readiness: VolumeEligibility; shown with why not
R104|PRE|it serves no other purpose|vault/readiness
R105|PRE|it is not locked|vault/readiness
R106|PRE|it is no cache or installation volume|vault/readiness
R107|PRE|it is not FAT|vault/readiness
R108|PRE|its capacity is not zero|vault/readiness
R109|VAL|Windows default: R|not yet: the master target runs on Linux
R110|VAL|Linux default: /mnt/retention|vault/readiness; the default is named at the master target's start
R111|PRE|an existing server gets a drive of the same kind|vault/readiness as R104 to R108
R112|VAL|a new volume shows after up to 15 minutes, or a refresh|vault/fleet: with the next heartbeat
R113|PRE|snapshots on the old machine make reprotect fail|vault/readiness
R114|BEH|original location: only the delta is sent|recovery
R115|BEH|physical servers come back as virtual machines|not yet: physical servers
R116|PRE|physical: master target and hosts are discovered|not yet: physical servers
R117|PRE|no failback to physical servers|guidance
R118|BEH|commit of a failback deletes the failed-over machines|recovery, vault/lifecycle; disks only after R169
R119|BEH|after it the machine is unprotected|vault/lifecycle
R120|UI|forward reprotect: give the process server|vault/service: Placement
R121|BEH|then failover is possible again|vault/lifecycle
R122|BEH|Linux comes back without NetworkManager|guidance: Homeward changes nothing inside a machine
R123|BEH|static addresses come back as DHCP|guidance: Homeward changes nothing inside a machine
R124|UI|where failback is started|cmd/homeward: homeward item failback
R125|UI|choose latest or latest app-consistent; some loss with the latter|vault.Input, cmd/homeward: --point
R126|BEH|the failed-over machines are shut down|recovery
R127|PRE|original location: same datastore as the master target|not yet: vSphere; R35 is enough (C11)
R128|BEH|no machine there: a new one is made|recovery: alternate location
R129|PRE|there is a failback policy|vault/readiness
R130|BEH|it is made with the forward policy|vault/readiness, vault/service
R131|BEH|it is associated by itself|vault/service
R132|BEH|it cannot be edited|vault/service: PutPolicy refuses
R133|VAL|15 min, 24 h, 60 min|vault/readiness, vault.FailbackSettings
`

const catalogueAzure = `
R134|BEH|after failover the machine runs unprotected|vault/lifecycle
R135|BEH|failback is reprotect, then failover|vault/lifecycle
R136|PRE|the failover is committed|vault/readiness; reprotect commits as its first task
R137|PRE|the home region is there and can take resources|vault/readiness
R138|UI|reprotect shows its direction|vault/service: Placement
R139|UI|review the resources; new ones are made|vault/service: Plan
R140|UI|customise storage and network|not yet: Azure
R141|BEH|seed with the latest data, then deltas, then failback|recovery
R142|BEH|a cache account where the machine runs|processserver: its spool
R143|BEH|target storage account with suffix asr|not yet: Azure
R144|BEH|replica managed disks are made|not yet: Azure
R145|BEH|temporary copies of the source disks|not yet: Azure
R146|VAL|billed while they exist|not yet: Azure
R147|BEH|availability sets are made|not yet: Azure
R148|BEH|a lock against deletion on the source machine|vault/readiness, by site guards
R149|BEH|until failback completes|vault/job: the ledger of artefacts
R150|VAL|the lock's name|not yet: Azure
R151|BEH|the target machine is powered off if it runs|recovery
R152|BEH|managed disks are copied with suffix -ASRReplica|not yet: Azure
R153|BEH|unmanaged disks are detached and used|not yet: Azure
R154|BEH|only differences are sent|recovery
R155|BEH|then deltas, and points by the policy|agent, mastertarget
R156|BEH|without target disks, replica disks are made|recovery: alternate location
R157|BEH|and copied whole|recovery: alternate location
R158|BEH|mostly not all data is sent|recovery
R159|PRE|source data gone: protect anew|recovery: alternate location makes a full copy, and the plan says so
R160|BEH|source data there: differences only|recovery
R161|VAL|time: checksum, transfer, processing, autoscale|vault/readiness: SeedsEstimate
R162|VAL|checksum: as long as the enable job|vault/readiness: SeedsEstimate
R163|VAL|transfer at 23 % of the disk's throughput|vault/readiness: SeedsEstimate
R164|BEH|points are processed after the transfer|vault/readiness: SeedsEstimate; Homeward applies them as they come
R165|VAL|processing: a fifth of both|vault/readiness: SeedsEstimate
R166|VAL|autoscale: 20 to 30 minutes|vault/readiness: SeedsEstimate
R167|VAL|the worked example: about three hours|vault/readiness: SeedsEstimate's test
R168|BEH|the first reprotect deletes nothing|recovery
R169|BEH|failback and reprotect delete the other side's resources|recovery: once the new direction is in sync
R170|BEH|one side is shut down, the other booted|recovery
R171|OPS|run a test failover first|vault/readiness
`
