CREATE TABLE "chat"."assessments" (
	"assessment_id" text PRIMARY KEY NOT NULL,
	"user_id" text NOT NULL,
	"stage" text NOT NULL,
	"version" numeric,
	"occurred_at" timestamp (3) with time zone NOT NULL,
	"results" jsonb,
	"awaits_results" boolean DEFAULT false NOT NULL,
	"suggestions" jsonb,
	"ready_at" timestamp (3) with time zone,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "assessments_stage" CHECK (stage in ('submitted', 'started', 'complete', 'failed'))
);
--> statement-breakpoint
ALTER TABLE "chat"."assessments" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "chat"."outbox" (
	"id" uuid PRIMARY KEY NOT NULL,
	"sink" text NOT NULL,
	"routing_key" text NOT NULL,
	"user_id" text,
	"payload" jsonb NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"due_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"leased_until" timestamp (3) with time zone,
	"attempts" integer DEFAULT 0 NOT NULL,
	CONSTRAINT "outbox_sink" CHECK (sink in ('exchange', 'dead_letters', 'bridge'))
);
--> statement-breakpoint
ALTER TABLE "chat"."outbox" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."conversations" ADD COLUMN "assessment_id" text;--> statement-breakpoint
CREATE INDEX "assessments_by_user" ON "chat"."assessments" USING btree ("user_id","occurred_at");--> statement-breakpoint
CREATE INDEX "outbox_due" ON "chat"."outbox" USING btree ("sink","due_at","id");--> statement-breakpoint
CREATE UNIQUE INDEX "conversations_one_by_assessment" ON "chat"."conversations" USING btree ("user_id","assessment_id") WHERE assessment_id is not null and status <> 'deleted';--> statement-breakpoint
CREATE POLICY "assessments_caller" ON "chat"."assessments" AS PERMISSIVE FOR SELECT TO "chat_caller" USING (user_id = nullif(current_setting('app.current_user_id', true), ''));--> statement-breakpoint
CREATE POLICY "assessments_system" ON "chat"."assessments" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "outbox_caller" ON "chat"."outbox" AS PERMISSIVE FOR INSERT TO "chat_caller" WITH CHECK (user_id = nullif(current_setting('app.current_user_id', true), ''));--> statement-breakpoint
CREATE POLICY "outbox_system" ON "chat"."outbox" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
ALTER TABLE "chat"."assessments" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."outbox" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
GRANT SELECT ON "chat"."assessments" TO "chat_caller";--> statement-breakpoint
GRANT INSERT ON "chat"."outbox" TO "chat_caller";--> statement-breakpoint
GRANT SELECT, INSERT, UPDATE, DELETE ON "chat"."assessments", "chat"."outbox" TO "chat_system";
