"""Limits of each rung, by test, with their reasons: the only ones for a test of the contract to be skipped.

The tests that need one thing are listed with it, so that a rung which learns it is seen to.
"""

from __future__ import annotations

_NO_PROC = "no /proc: a container may not mount it"
_NO_NAMESPACES = "no namespaces: the step has those of the container"
_COPIES = "mounts are copies, which no kernel keeps read-only, bounded or apart"
_WRITES_BACK = "a directory that cannot be mounted cannot be written through: refused in words"
_HOST_PROGRAMS = "needs the host's /usr in the step, which would be copied"

_CHROOT = {
    "test_namespaces_are_its_own": _NO_NAMESPACES,
    "test_network_none_has_loopback_only": _NO_NAMESPACES,
    "test_insecure_unmasks": _NO_NAMESPACES,
    "test_sockets_of_others_are_not_read": _HOST_PROGRAMS,
    "test_host_mounts_are_not_visible": _NO_PROC,
    "test_no_descriptor_leaks_in": _NO_PROC,
    "test_kernel_paths_are_masked_and_read_only": _NO_PROC,
    "test_output_comes_on_two_streams_and_stdin_is_empty": _NO_PROC,
    "test_capabilities_are_the_default_set": _NO_PROC,
    "test_other_users_have_no_capabilities_and_can_gain_them": _NO_PROC,
    "test_resolv_conf_and_hosts_are_given_and_read_only": _COPIES,
    "test_devices_are_the_engines": _COPIES,
    "test_device_nodes_can_be_made_and_not_opened": _COPIES,
    "test_shm_size_is_as_asked": _COPIES,
    "test_tmpfs_takes_size_and_is_lost": _COPIES,
    "test_bind_of_deltas_with_a_selector": _COPIES,
    "test_secret_is_a_read_only_file_in_memory": _COPIES,
    "test_too_many_layers_are_refused_by_number": _COPIES,
    "test_filling_memory_through_its_file_systems": _COPIES,
    "test_a_read_only_root_refuses_writes": _COPIES,
    "test_bind_of_a_directory_and_of_a_file": _WRITES_BACK,
    "test_mount_inside_a_mount": _WRITES_BACK,
    "test_mount_inside_a_read_only_mount_needs_its_mount_point": _WRITES_BACK,
    "test_mount_through_a_link_planted_in_a_cache_stays_inside": _WRITES_BACK,
    "test_set_user_id_programs_work": _HOST_PROGRAMS,
    "test_system_calls_are_filtered_as_engines_do": _HOST_PROGRAMS,
    "test_ten_thousand_directories_deep": _HOST_PROGRAMS,
    "test_remounting_is_refused": _HOST_PROGRAMS,
    "test_tracing_stays_inside": _HOST_PROGRAMS,
}
_ONE_ID = {
    "test_other_users_have_no_capabilities_and_can_gain_them": (
        "with one id other users are told to a step that keeps what it has"
    ),
}
_SUB_IDS = {
    "test_device_nodes_can_be_made_and_not_opened": (
        "no user namespace makes device nodes, and with a range of ids nobody notes them"
    ),
    "test_hard_links_owners_and_modes_reach_the_layer": "no user namespace makes device nodes",
}
CANNOT: dict[str, dict[str, str]] = {
    "chroot": _CHROOT,
    "userns-single": _ONE_ID,
    "userns": _SUB_IDS,
    "crun-userns": _SUB_IDS,
    "runc-userns": _SUB_IDS,
}
