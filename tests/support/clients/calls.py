"""Every call that the sample pages print, in their order, and those among them that this router is not for.

The pages are not in this repository: their calls are, so that none is forgotten. Not about how one runs (samples.py).
"""

import re
from collections.abc import Mapping
from typing import Final

_CALL: Final = re.compile(
    r"(?P<method>(?:fabric|client)\.[a-zA-Z_.]+|job\.wait|FabricClient::new|FabricClient|FairStack)\("
    r'|curl\s+(?:-\S+\s+)*(?:POST\s+)?"?https://[a-z.]+'
    r"(?P<path>/v1/(?:jobs(?:/(?:<job-id>|job_abc123)(?:/(?:usage|events|cancel))?)?|providers/estimate|workflows/runs))"
)


def calls_in(text: str) -> list[str]:
    """The method calls of a client and the paths that curl is given, in their order."""
    return [found["method"] or f"curl:{found['path']}" for found in _CALL.finditer(text)]


CALLS: Final[Mapping[str, str]] = {
    "000": """
        FabricClient fabric.createJob fabric.getJob fabric.listJobs fabric.getJobUsage fabric.createJob
        fabric.estimateCost fabric.streamEvents
    """,
    "001": """
        FabricClient fabric.createJob FabricClient fabric.create_job FabricClient::new client.create_job curl:/v1/jobs
        fabric.getJob fabric.listJobs fabric.getJobUsage fabric.get_job fabric.list_jobs fabric.get_job_usage
        client.get_job client.list_jobs client.get_job_usage curl:/v1/jobs/<job-id> curl:/v1/jobs
        curl:/v1/jobs/<job-id>/usage fabric.createJob fabric.create_job client.create_job curl:/v1/jobs
        fabric.estimateCost fabric.estimate_cost client.estimate_cost curl:/v1/providers/estimate fabric.streamEvents
        fabric.stream_job_events client.stream_job_events curl:/v1/jobs/<job-id>/events curl:/v1/workflows/runs
        curl:/v1/workflows/runs curl:/v1/workflows/runs
    """,
    "002": """
        FabricClient FabricClient FabricClient fabric.health_check FabricClient fabric.signup fabric.login
        fabric.magic_link fabric.social_login_url fabric.refresh_token fabric.logout fabric.forgot_password
        fabric.reset_password fabric.create_job fabric.get_job fabric.list_jobs fabric.get_job_usage
        fabric.upsert_workflow fabric.list_workflows fabric.get_workflow fabric.run_workflow fabric.wait_for_run
        fabric.get_run fabric.cancel_run fabric.bulk_cancel_runs fabric.run_log fabric.list_children fabric.resume_node
        fabric.create_schedule fabric.list_schedules fabric.update_schedule fabric.trigger_schedule
        fabric.schedule_history fabric.delete_schedule fabric.create_organization fabric.list_organizations
        fabric.get_organization fabric.list_org_members fabric.create_team fabric.list_org_teams
        fabric.create_invitation fabric.accept_invitation fabric.revoke_invitation fabric.get_me
        fabric.get_my_organizations fabric.get_my_teams fabric.get_my_permissions fabric.check_permission
        fabric.check_permissions fabric.create_api_key fabric.list_api_keys fabric.rotate_api_key
        fabric.disable_api_key fabric.delete_api_key fabric.set_secret fabric.list_secrets fabric.delete_secret
        fabric.providers fabric.execute_provider fabric.estimate_cost fabric.stream_events fabric.stream_run_events
        fabric.stream_job_events fabric.create_webhook fabric.list_webhooks fabric.update_webhook fabric.delete_webhook
        fabric.get_org_usage fabric.get_org_usage_records fabric.get_org_usage_daily fabric.get_org_audit_logs
        fabric.get_audit_logs fabric.list_galleries fabric.list_gallery_items fabric.close FabricClient
    """,
    "003": """
        FabricClient FabricClient FabricClient fabric.health_check FabricClient fabric.signup fabric.login
        fabric.magic_link fabric.social_login_url fabric.refresh_token fabric.logout fabric.forgot_password
        fabric.reset_password fabric.create_job fabric.get_job fabric.list_jobs fabric.get_job_usage
        fabric.upsert_workflow fabric.list_workflows fabric.get_workflow fabric.run_workflow fabric.wait_for_run
        fabric.get_run fabric.cancel_run fabric.bulk_cancel_runs fabric.run_log fabric.list_children fabric.resume_node
        fabric.workflows.runs.submit_and_get_output fabric.workflows.runs.submit_bundle
        fabric.workflows.runs.submit_and_get_output fabric.get_workflow_schemas fabric.get_workflow_schemas
        fabric.submit_run fabric.face_swap fabric.face_swap fabric.motion_transfer fabric.motion_transfer
        fabric.motion_transfer fabric.wait_for_run fabric.create_schedule fabric.list_schedules fabric.update_schedule
        fabric.trigger_schedule fabric.schedule_history fabric.delete_schedule fabric.create_organization
        fabric.list_organizations fabric.get_organization fabric.list_org_members fabric.create_team
        fabric.list_org_teams fabric.create_invitation fabric.revoke_invitation fabric.list_invitations fabric.get_me
        fabric.get_my_organizations fabric.get_my_teams fabric.get_my_permissions fabric.check_permission
        fabric.check_permissions fabric.create_api_key fabric.list_api_keys fabric.rotate_api_key
        fabric.disable_api_key fabric.delete_api_key fabric.set_secret fabric.list_secrets fabric.delete_secret
        fabric.providers fabric.execute_provider fabric.estimate_cost fabric.stream_events fabric.stream_run_events
        fabric.stream_job_events fabric.create_webhook fabric.list_webhooks fabric.update_webhook fabric.delete_webhook
        fabric.get_org_usage fabric.get_org_usage_records fabric.get_org_usage_daily fabric.get_org_audit_logs
        fabric.get_audit_logs fabric.list_galleries fabric.list_gallery_items fabric.close FabricClient
    """,
    "004": """
        curl:/v1/jobs/job_abc123 FairStack client.generate.video job.wait client.jobs.get FairStack
        client.generate.video job.wait client.jobs.get curl:/v1/jobs curl:/v1/jobs/job_abc123/cancel
    """,
}

_WORKFLOWS: Final = "workflows belong to the control plane: a node runs single jobs"
_SCHEDULES: Final = "schedules start workflows, which are not run here"
_ACCOUNTS: Final = "people sign in at the control plane: a node knows keys"
_ORGANIZATIONS: Final = "organizations, teams and members are the control plane's: here an organization is a name"
_PERMISSIONS: Final = "what a key may do is in its scopes: people's permissions are the control plane's"
_GALLERIES: Final = "galleries are the control plane's: here files are assets"

OUT_OF_SCOPE: Final[Mapping[str, str]] = {
    call: reason
    for reason, calls in {
        _WORKFLOWS: """
            curl:/v1/workflows/runs fabric.upsert_workflow fabric.list_workflows fabric.get_workflow
            fabric.run_workflow fabric.wait_for_run fabric.get_run fabric.cancel_run fabric.bulk_cancel_runs
            fabric.run_log fabric.list_children fabric.resume_node fabric.workflows.runs.submit_and_get_output
            fabric.workflows.runs.submit_bundle fabric.get_workflow_schemas fabric.submit_run fabric.face_swap
            fabric.motion_transfer
        """,
        _SCHEDULES: """
            fabric.create_schedule fabric.list_schedules fabric.update_schedule fabric.trigger_schedule
            fabric.schedule_history fabric.delete_schedule
        """,
        _ACCOUNTS: """
            fabric.signup fabric.login fabric.magic_link fabric.social_login_url fabric.refresh_token fabric.logout
            fabric.forgot_password fabric.reset_password
        """,
        _ORGANIZATIONS: """
            fabric.create_organization fabric.list_organizations fabric.get_organization fabric.list_org_members
            fabric.create_team fabric.list_org_teams fabric.create_invitation fabric.accept_invitation
            fabric.revoke_invitation fabric.list_invitations
        """,
        _PERMISSIONS: """
            fabric.get_me fabric.get_my_organizations fabric.get_my_teams fabric.get_my_permissions
            fabric.check_permission fabric.check_permissions
        """,
        _GALLERIES: "fabric.list_galleries fabric.list_gallery_items",
    }.items()
    for call in calls.split()
}


def wanted(seed: str) -> list[str]:
    """The calls of a page that this router is for."""
    return [call for call in CALLS[seed].split() if call not in OUT_OF_SCOPE]
