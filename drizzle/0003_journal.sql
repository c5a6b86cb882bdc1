CREATE TABLE "chat"."generation_chunks" (
	"generation_id" uuid NOT NULL,
	"first_seq" bigint NOT NULL,
	"last_seq" bigint NOT NULL,
	"user_id" text NOT NULL,
	"events" jsonb NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "generation_chunks_generation_id_first_seq_pk" PRIMARY KEY("generation_id","first_seq")
);
--> statement-breakpoint
ALTER TABLE "chat"."generation_chunks" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."generations" ADD COLUMN "instance_id" uuid;--> statement-breakpoint
ALTER TABLE "chat"."generations" ADD COLUMN "heartbeat_at" timestamp (3) with time zone DEFAULT now() NOT NULL;--> statement-breakpoint
ALTER TABLE "chat"."generations" ADD COLUMN "stop_requested_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "chat"."generations" ADD COLUMN "survived_seq" bigint;--> statement-breakpoint
CREATE INDEX "generation_chunks_by_age" ON "chat"."generation_chunks" USING btree ("created_at");--> statement-breakpoint
CREATE POLICY "generation_chunks_caller" ON "chat"."generation_chunks" AS PERMISSIVE FOR ALL TO "chat_caller" USING (user_id = nullif(current_setting('app.current_user_id', true), '')) WITH CHECK (user_id = nullif(current_setting('app.current_user_id', true), ''));--> statement-breakpoint
CREATE POLICY "generation_chunks_system" ON "chat"."generation_chunks" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
ALTER TABLE "chat"."generation_chunks" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
GRANT SELECT, INSERT, UPDATE ON "chat"."generation_chunks" TO "chat_caller";--> statement-breakpoint
GRANT SELECT, INSERT, UPDATE, DELETE ON "chat"."generation_chunks" TO "chat_system";
